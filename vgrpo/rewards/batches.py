"""Reward models on a rollout of any size."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt

BATCH = 64  # images; a thousand at once would take more memory than the model
Score = Callable[[Any, Tensor, list[Prompt]], Tensor]


def batched(score: Score) -> Score:
    """A reward's `__call__` in batches of at most BATCH images."""

    @wraps(score)
    def call(self: Any, images: Tensor, prompts: list[Prompt]) -> Tensor:
        starts = range(0, len(images), BATCH)
        return torch.cat([score(self, images[i : i + BATCH], prompts[i : i + BATCH]) for i in starts])

    return call


def by_prompt(prompts: list[Prompt], most: int | None = None) -> list[list[int]]:
    """The rows of each prompt, in parts of at most so many."""
    rows: dict[object, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt.identity, []).append(row)
    return [part for own in rows.values() for part in cut(own, most or len(own))]


def cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
