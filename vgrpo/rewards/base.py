"""What a reward is, and how images are scored with one."""

from collections.abc import Callable

import torch
from torch import Tensor

from vgrpo.core.types import Prompt

Reward = Callable[[Tensor, list[Prompt]], Tensor]
"""From images [B, 3, H, W] in [0, 1] and their prompts to [B]; NaN where it cannot tell."""
Loader = Callable[[str | None, str], Reward]
"""From a hub id, folder or file (None is the published one) and the device that its models compute on to the reward."""


class RewardError(RuntimeError):
    """A reward failed on a whole batch: the run cannot go on."""


def score_images(reward: Reward, images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Rewards [B], NaN where the reward failed. If the batch raises, each image is tried alone.

    Raises RewardError if every image failed, or if the answer is not one number per image.
    """
    try:
        values = _call(reward, images, prompts)
    except RewardError:
        raise
    except Exception:  # a reward is the user's code: whatever it raises counts as failed, never as 0
        values = torch.full((len(images),), torch.nan)
        for index in range(len(images) if len(images) > 1 else 0):
            try:
                values[index] = _call(reward, images[index : index + 1], prompts[index : index + 1])[0]
            except Exception as single_error:
                error = single_error
        if values.isnan().all():
            raise RewardError(f"the reward failed on every image, last with {type(error).__name__}: {error}") from error
    if values.isnan().all():
        raise RewardError("the reward is NaN or infinite on every image")
    return values


def _call(reward: Reward, images: Tensor, prompts: list[Prompt]) -> Tensor:
    values = torch.as_tensor(reward(images, prompts)).detach().float().cpu()
    if values.shape != (len(images),):
        raise RewardError(
            f"the reward returned shape {list(values.shape)} for {len(images)} images; it must return [{len(images)}], "
            "one number per image"
        )
    return torch.where(values.isfinite(), values, torch.nan)
