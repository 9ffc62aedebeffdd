"""eval.json and the table of a finished evaluation."""

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from vgrpo.evaluation.bootstrap import LEVEL, Estimate, estimates, over_categories
from vgrpo.evaluation.core import Job, averages, combined
from vgrpo.support.files import write_whole

Scores = dict[str, tuple[Tensor, Tensor]]
"""Rewards [B, R] and strict scores [B] of `base` and perhaps `tuned`."""


def summarise(scores: Scores, jobs: list[Job], names: list[str]) -> dict[str, Any]:
    """eval.json: what training writes into it, and every reward's `intervals` and `failed` images."""
    content: dict[str, Any] = {"num_prompts": jobs[-1].index + 1, "num_images": len(jobs)}
    metrics: dict[str, dict[str, Tensor]] = {}
    for part, (values, strict) in scores.items():
        content[part] = averages(combined(values, strict, [1.0] * len(names)), jobs)
        for name, column in zip(names, values.unbind(1), strict=True):
            metrics.setdefault(name, {})[part] = column
        if not strict.isnan().all():
            metrics.setdefault("strict", {})[part] = strict
    content["failed"] = {name: {part: int(v.isnan().sum()) for part, v in parts.items()} for name, parts in metrics.items()}
    content["intervals"] = {name: _intervals(parts, jobs) for name, parts in metrics.items()}
    return content


def _intervals(parts: dict[str, Tensor], jobs: list[Job]) -> dict[str, Any]:
    """Of one metric, for each part and, of both, for the paired `change`."""
    found: dict[str, dict[str, Estimate]] = {part: estimates(values, jobs) for part, values in parts.items()}
    if "tuned" in found:
        found["change"] = {tag: found["tuned"][tag] - base for tag, base in found["base"].items()}
    return {
        part: {
            "overall": over_categories(categories).entry(),
            "by_category": {tag: estimate.entry() for tag, estimate in categories.items()},
        }
        for part, categories in found.items()
    }


def save(folder: Path, content: dict[str, Any]) -> None:
    write_whole(folder / "eval.json", json.dumps(content, indent=1))


def intervals_table(content: dict[str, Any]) -> Table:
    """Overall scores of every reward with their intervals."""
    table = Table(title=f"{LEVEL:.0%} intervals over prompts")
    parts = list(next(iter(content["intervals"].values())))
    for name in ("", *parts):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for name, found in content["intervals"].items():
        table.add_row(name, *(_two_lines(found[part]["overall"], part) for part in parts))
    return table


def _two_lines(entry: dict[str, float | None], part: str) -> str:
    """The interval below the mean, so that three fit into a terminal."""
    return spelled(entry, signed=part == "change").replace(" (", "\n(")


def spelled(entry: dict[str, float | None], *, signed: bool = False) -> str:
    """`0.512 (0.480 to 0.545)`, or less where there is less."""
    form = "+.3f" if signed else ".3f"
    mean, low, high = entry["mean"], entry["low"], entry["high"]
    if mean is None:
        return "failed"
    return f"{mean:{form}}" + (f" ({low:{form}} to {high:{form}})" if low is not None and high is not None else "")
