"""Tables for the terminal."""

from typing import Any

from rich.table import Table
from rich.text import Text


def results_table(evaluation: dict[str, Any]) -> Table:
    """Held-out scores before and after, by category."""
    table = Table(title=f"held-out, {evaluation['num_prompts']} prompts, {evaluation['num_images']} images")
    parts = [name for name in ("base", "tuned") if name in evaluation]
    metric = "reward" if evaluation[parts[0]]["strict"] is None else "strict"
    for name in ("", *parts, "change"):
        table.add_column(name, justify="right" if name else "left")

    def row(label: str, values: list[float], style: str = "") -> None:
        change = f"{values[-1] - values[0]:+.3f}" if len(values) > 1 else ""
        table.add_row(Text(label), *(f"{value:.3f}" for value in values), change, style=style)

    for category in evaluation[parts[0]]["by_category"]:
        row(category, [evaluation[part]["by_category"][category][metric] for part in parts])
    table.add_section()
    row("reward", [evaluation[part]["reward"] for part in parts])
    if metric == "strict":
        row("strict", [evaluation[part]["strict"] for part in parts], "bold")
    return table
