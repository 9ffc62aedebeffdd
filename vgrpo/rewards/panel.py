"""The rewards of a run together: who judges which prompts, with what weight.

Dimensions: B images, R rewards.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.types import MAIN, Prompt
from vgrpo.rewards.base import Reward, RewardError, Scores, judge_images
from vgrpo.rewards.calls import name_of


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Rewards and, for every task, the weight of each; NaN for a reward that is not asked about a task's prompts."""

    rewards: list[Reward]
    weights: dict[str, list[float]]

    @classmethod
    def of(cls, rewards: list[Reward], weights: list[float] | None = None) -> Self:
        """Rewards that all judge the prompts of the one task, by default with equal weights."""
        return cls(rewards=rewards, weights={MAIN: weights or [1.0] * len(rewards)})

    @property
    def names(self) -> list[str]:
        names = [name_of(reward) for reward in self.rewards]
        return [name if names.count(name) == 1 else f"{name}.{index}" for index, name in enumerate(names)]

    def weights_of(self, prompts: list[Prompt]) -> Tensor:
        """Of the rewards of each prompt's image, [B, R]; NaN where a reward is not asked."""
        return torch.tensor([self.weights[prompt.task] for prompt in prompts])

    def judge(
        self,
        images: Tensor,
        prompts: list[Prompt],
        notice: Callable[[str], None] = warnings.warn,
        processes: Processes = ALONE,
    ) -> Scores:
        """Every reward of images [B, 3, H, W], [B, R]. One that is not asked about a prompt abstains.

        Raises RewardError if a reward failed on all images that it was asked about in all processes, which judge at the same
        time.
        """
        asked = ~self.weights_of(prompts).isnan()
        values, failed = torch.full(asked.shape, math.nan), torch.zeros_like(asked)
        for index, reward in enumerate(self.rewards):
            rows = asked[:, index].nonzero()[:, 0]
            error = RewardError(f"the reward {name_of(reward)} failed on every image, in other processes")
            try:
                if len(rows) > 0:
                    own = images if len(rows) == len(images) else images[rows.to(images.device)]
                    scores = judge_images(reward, own, [prompts[row] for row in rows.tolist()], notice=notice)
                    values[rows, index], failed[rows, index] = scores.values, scores.failed
            except RewardError as own_error:
                error, failed[rows, index] = own_error, True
            num_asked, num_failed = processes.total(torch.tensor([len(rows), int(failed[rows, index].sum())])).tolist()
            if num_failed == num_asked > 0:
                raise error
        return Scores(values, failed)
