"""eval.json of a finished evaluation."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.evaluation.bootstrap import Estimate, estimates, over_categories
from vgrpo.evaluation.core import averages
from vgrpo.evaluation.judged import Judged
from vgrpo.evaluation.pictures import Picture
from vgrpo.rewards.registry import PUBLISHED_SCALES
from vgrpo.support.json_files import write_json


def summarise(parts: dict[str, Judged], pictures: list[Picture], names: list[str]) -> dict[str, Any]:
    """eval.json of `base` and perhaps `tuned`: what training writes into it, and every reward's `intervals` and `failed`
    images. A reward whose scores are published at another scale has them at that one, too."""
    content: dict[str, Any] = {"num_prompts": pictures[-1].index + 1, "num_images": len(pictures)}
    metrics: dict[str, dict[str, Tensor]] = {}
    failed: dict[str, dict[str, int]] = {name: {} for name in names}
    for part, judged in parts.items():
        content[part] = averages(judged, torch.ones(len(names)), pictures)
        for name, column, faults in zip(names, judged.rewards.unbind(1), judged.failed.unbind(1), strict=True):
            metrics.setdefault(name, {})[part] = column
            failed[name][part] = int(faults.sum())
            scale = PUBLISHED_SCALES.get(name)
            if scale is not None:
                metrics.setdefault(f"{name} x {scale:g}, as published", {})[part] = column * scale
        if judged.strict is not None:
            metrics.setdefault("strict", {})[part] = judged.strict
    content["failed"] = failed
    content["intervals"] = {name: _intervals(found, pictures) for name, found in metrics.items()}
    return content


def _intervals(parts: dict[str, Tensor], pictures: list[Picture]) -> dict[str, Any]:
    """Of one metric, for each part and, of both, for the paired `change`."""
    found: dict[str, dict[str, Estimate]] = {part: estimates(values, pictures) for part, values in parts.items()}
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
    write_json(folder / "eval.json", content)


def spelled(entry: dict[str, float | None], *, signed: bool = False) -> str:
    """`0.512 (0.480 to 0.545)`, or less where there is less."""
    form = "+.3f" if signed else ".3f"
    mean, low, high = entry["mean"], entry["low"], entry["high"]
    if mean is None:
        return "no score"
    return f"{mean:{form}}" + (f" ({low:{form}} to {high:{form}})" if low is not None and high is not None else "")
