"""GenEval's rules (arXiv:2310.11513) as functions of what was detected: a prompt's metadata says what must be on the image.

`include` lists a class with its count, and perhaps a color or a position relative to an earlier entry; `exclude` a class with
the count that it must stay below. Flow-GRPO (arXiv:2505.05470) trains on a graded score of the same metadata.
"""

import math
from dataclasses import dataclass, field
from typing import Any

THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9  # of a detection's score; counting prompts take sure ones only
MAX_OBJECTS = 16  # per class
MARGIN = 0.1  # of both sizes, by which centres must differ


@dataclass(frozen=True, kw_only=True)
class Detection:
    """An object: GenEval's name of its class, score in [0, 1], box (left, top, right, bottom) in pixels, color where known."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    color: str | None = None
    mask: Any = field(default=None, compare=False)
    """[H, W] bool, which the rules do not look at."""


def kept(detections: list[Detection], metadata: dict[str, Any]) -> list[Detection]:
    """Those above the threshold, surest first, at most 16 a class. Overlapping ones stay, as in the published setting."""
    threshold = COUNTING_THRESHOLD if metadata.get("tag") == "counting" else THRESHOLD
    result: list[Detection] = []
    for detection in sorted(detections, key=lambda detection: -detection.score):
        if detection.score > threshold and len(of_class(result, detection.label)) < MAX_OBJECTS:
            result.append(detection)
    return result


def of_class(detections: list[Detection], label: str) -> list[Detection]:
    return [detection for detection in detections if detection.label == label]


def strict(detections: list[Detection], metadata: dict[str, Any]) -> bool:
    """Whether the image is right: each entry is judged on its `count` surest objects; more of them do no harm."""
    groups: list[list[Detection] | None] = []
    for entry in metadata["include"]:
        found = of_class(detections, entry["class"])[: entry["count"]]
        right = len(found) == entry["count"] and all(_colored(detection, entry) for detection in found)
        groups.append(found if right and _placed(found, entry, groups) else None)
    too_many = any(len(of_class(detections, entry["class"])) >= entry["count"] for entry in metadata.get("exclude", ()))
    return None not in groups and not too_many


def graded(detections: list[Detection], metadata: dict[str, Any]) -> float:
    """Mean credit over all that is asked for; at most 1, and below 0 for far too many objects.

    A count of n instead of m earns 1 - |n - m| / m. Color earns the same for objects of that color, position 0 or 1, but
    both nothing unless the count is exact.
    """
    credits: list[float] = []
    groups: list[list[Detection] | None] = []
    for entry in metadata["include"]:
        found, count = of_class(detections, entry["class"]), entry["count"]
        credits.append(1 - abs(len(found) - count) / count)
        right = len(found) == count
        if "color" in entry:
            num_colored = sum(_colored(detection, entry) for detection in found)
            credits.append(1 - abs(num_colored - count) / count if right else 0.0)
            right = right and num_colored == count
        if "position" in entry:
            right = right and _placed(found, entry, groups)
            credits.append(float(right))
        groups.append(found if right else None)
    return sum(credits) / len(credits)


def _colored(detection: Detection, entry: dict[str, Any]) -> bool:
    return "color" not in entry or detection.color == entry["color"]


def _placed(found: list[Detection], entry: dict[str, Any], groups: list[list[Detection] | None]) -> bool:
    """Whether all objects stand where they should to all of the entry they refer to, which must be right itself."""
    if "position" not in entry:
        return True
    relation, index = entry["position"]
    targets = groups[index]
    return targets is not None and all(relation in relations(a.box, b.box) for a in found for b in targets)


def relations(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> set[str]:
    """How box a lies to box b: none, one, or two of left of, right of, above and below.

    Of the offset of the centres a tenth of both sizes is taken off; what is left must be over half of the whole offset.
    """
    offset = [(a[axis] + a[axis + 2] - b[axis] - b[axis + 2]) / 2 for axis in (0, 1)]
    slack = [MARGIN * (abs(a[axis + 2] - a[axis]) + abs(b[axis + 2] - b[axis])) for axis in (0, 1)]
    clear = [math.copysign(max(abs(o) - s, 0), o) for o, s in zip(offset, slack, strict=True)]
    if max(map(abs, clear)) < 1e-3:
        return set()
    x, y = (value / math.hypot(*offset) for value in clear)
    named = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in named.items() if holds}
