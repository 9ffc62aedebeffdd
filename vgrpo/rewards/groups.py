"""Rewards that judge the images of a prompt together: how diverse they are, or each against the others."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.batches import by_prompt


class GroupReward(ABC):
    """A subclass scores one group at a time; what is called with a batch [B, 3, H, W] finds the groups by their prompts."""

    judges_groups: ClassVar[bool] = True
    """A batch on which it fails is not halved, as half a group earns other scores."""

    @abstractmethod
    def score_group(self, images: Tensor, prompt: Prompt) -> Tensor:
        """Scores [G] of the images [G, 3, H, W] of one prompt."""

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        scores = torch.empty(len(images))
        for own in by_prompt(prompts):
            scores[own] = self.score_group(images[own], prompts[own[0]]).float().cpu()
        return scores
