"""Tables for the terminal."""

from typing import Any

from rich.table import Table
from rich.text import Text

from vgrpo.evaluation.bootstrap import LEVEL
from vgrpo.evaluation.summary import spelled


def results_table(evaluation: dict[str, Any]) -> Table:
    """Held-out scores before and after, by category: strict ones where there are, else the reward."""
    table = Table(title=f"held-out, {evaluation['num_prompts']} prompts, {evaluation['num_images']} images")
    parts = [evaluation[name] for name in ("base", "tuned") if name in evaluation]
    metric = "reward" if parts[0].get("strict") is None else "strict"
    for name in (f"{metric} score", *(name for name in ("base", "tuned") if name in evaluation), "change"):
        table.add_column(name, justify="left" if name.endswith("score") else "right")
    for category in parts[0]["by_category"]:
        table.add_row(*_cells(category, [part["by_category"][category][metric] for part in parts]))
    table.add_section()
    if metric == "strict":
        table.add_row(*_cells("all", [part["strict"] for part in parts]), style="bold")
        table.add_section()
    table.add_row(*_cells("reward" if metric == "strict" else "all", [part["reward"] for part in parts]))
    return table


def _cells(label: str, values: list[float | None]) -> list[str | Text]:
    """A label, the scores and, of two, the change. A score is None if no image of its category has one."""
    first, last = values[0], values[-1]
    change = "" if len(values) < 2 or first is None or last is None else f"{last - first:+.3f}"
    return [Text(label), *("no score" if value is None else f"{value:.3f}" for value in values), change]


def intervals_table(content: dict[str, Any]) -> Table:
    """Overall scores of every reward with their intervals."""
    table = Table(title=f"{LEVEL:.0%} intervals over prompts")
    parts = list(next(iter(content["intervals"].values())))
    for name in ("", *parts):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for name, found in content["intervals"].items():
        table.add_row(Text(name), *(_two_lines(found[part]["overall"], part) for part in parts))
    return table


def _two_lines(entry: dict[str, float | None], part: str) -> str:
    """The interval below the mean, so that three fit into a terminal."""
    return spelled(entry, signed=part == "change").replace(" (", "\n(")
