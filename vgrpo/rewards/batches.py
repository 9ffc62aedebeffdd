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
