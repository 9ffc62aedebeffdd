"""What a reward is, and how images are scored with one."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import CallFailed, NoAnswer, call, name_of
from vgrpo.rewards.calls import Reward as Reward
from vgrpo.rewards.calls import RewardError as RewardError

Loader = Callable[[str | None, str], Reward]
"""From a hub id, folder or file (None is the published one) and the device that its models compute on to the reward."""
MOST_PARTS = 32
"""If a reward fails on each of so many parts of a batch, it is the reward that is broken, and not an image."""


def score_images(
    reward: Reward,
    images: Tensor,
    prompts: list[Prompt],
    *,
    timeout: float | None = None,
    notice: Callable[[str], None] = warnings.warn,
) -> Tensor:
    """Scores [B] of images [B, 3, H, W], fp32 on the CPU; NaN where the reward failed or gave no finite number.

    A batch on which the reward raises an error is halved, and halved again, until the images that it fails on are alone: one
    bad image of B costs 2 log2(B) calls more. `timeout` is the seconds that a call may take; a part that takes longer has
    failed, and is not tried again. `notice` is told why, if only some images failed.

    Raises RewardError if every image failed, or if the answer is not one real number per image.
    """
    values = torch.full((len(images),), torch.nan)
    parts, reason = [range(len(images))], ""
    while parts:
        failed = list[range]()
        for part in parts:
            rows = slice(part.start, part.stop)
            try:
                values[rows] = call(reward, images[rows], prompts[rows], timeout)
            except NoAnswer as error:
                reason = str(error)
            except CallFailed as error:
                reason = str(error)
                failed.append(part)
        if len(failed) == len(parts) >= MOST_PARTS:
            break
        parts = [half for part in failed if len(part) > 1 for half in _halves(part)]
    if values.isnan().all():
        if reason:
            raise RewardError(f"the reward failed on every image, last with {reason}")
        raise RewardError("the reward is NaN or infinite on every image")
    if reason:
        notice(f"reward {name_of(reward)} failed on some images, which get no score: {reason}")
    return values


def _halves(part: range) -> tuple[range, range]:
    middle = (part.start + part.stop) // 2
    return range(part.start, middle), range(middle, part.stop)
