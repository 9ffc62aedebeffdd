"""What the sample pictures of a checkpoint score: a held-out curve over checkpoints, which costs no evaluation of its own.

The pictures are of held-out prompts where a run has any (`save_samples`), the same prompts and noise at every checkpoint.
"""

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from vgrpo.pages.run_files import RunFiles, number, table

MOST_ROWS, MOST_NAMES = 1000, 40
Rows = list[list[float]]
"""What is known of each prompt's images."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A checkpoint's pictures, as means over prompts of the means over their images."""

    iteration: int
    num_prompts: int
    num_images: int
    means: dict[str, float]
    """reward and strict, `reward/NAME` of several rewards, `monitor/NAME`, and `category/TAG` of several tags."""
    error: float | None
    """Of the reward: the standard error over prompts."""


def point_of(files: RunFiles, part: str) -> Point | None:
    """The scores of samples/PART; None where there are none."""
    content = files.mapping(f"samples/{part}/scores.json")
    reward = _rows(content.get("reward"))
    known = _means(reward)
    if not known:
        return None
    means = {"reward": fmean(known)}
    if strict := _means(_rows(content.get("strict"))):
        means["strict"] = fmean(strict)
    names = [name for name in _list(content.get("rewards")) if isinstance(name, str)][:MOST_NAMES]
    for column, name in enumerate(names if len(names) > 1 else ()):
        rows = [
            [_list(image)[column] if column < len(_list(image)) else None for image in _list(row)]
            for row in _list(content.get("parts"))
        ]
        if values := _means(_rows(rows)):
            means[f"reward/{name}"] = fmean(values)
    for name, rows in list(table(content.get("monitors")).items())[:MOST_NAMES]:
        if values := _means(_rows(rows)):
            means[f"monitor/{name}"] = fmean(values)
    return Point(
        iteration=int(part),
        num_prompts=len(known),
        num_images=sum(map(len, reward)),
        means=means | _categories(reward, _list(content.get("tags"))),
        error=stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None,
    )


def _categories(reward: Rows, tags: list[Any]) -> dict[str, float]:
    by_tag: dict[str, list[float]] = {}
    for row, tag in zip(reward, tags, strict=False):
        if row and isinstance(tag, str) and tag:
            by_tag.setdefault(tag, []).append(fmean(row))
    return {f"category/{tag}": fmean(by_tag[tag]) for tag in list(by_tag)[:MOST_NAMES]} if len(by_tag) > 1 else {}


def _rows(value: object) -> Rows:
    return [[n for image in _list(row) if (n := number(image)) is not None] for row in _list(value)]


def _means(rows: Rows) -> list[float]:
    return [fmean(row) for row in rows if row]


def _list(value: object) -> list[Any]:
    return value[:MOST_ROWS] if isinstance(value, list) else []
