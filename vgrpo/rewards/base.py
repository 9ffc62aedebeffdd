"""What a reward is, and how images are scored with one."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vgrpo.core.images import stills
from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import CallFailed, NoAnswer, call, name_of
from vgrpo.rewards.calls import Reward as Reward
from vgrpo.rewards.calls import RewardError as RewardError

Loader = Callable[[str | None, str], Reward]
"""From a hub id, folder or file (None is the published one) and the device that its models compute on to the reward."""
MOST_PARTS = 32
"""If a reward fails on each of so many parts of a batch, it is the reward that is broken, and not an image."""


class Scores(NamedTuple):
    """What B images scored with one reward, or with R."""

    values: Tensor  # [B] or [B, R], fp32 on the CPU; NaN where there is no score
    failed: Tensor  # bool, as `values`: there should be one. Without a score and not failed, the reward abstained

    @property
    def usable(self) -> Tensor:
        """The values [B, R], none of an image on which a reward failed: the others alone would judge it by another measure."""
        return torch.where(self.failed.any(1, keepdim=True), torch.nan, self.values)


def score_images(
    reward: Reward,
    images: Tensor,
    prompts: list[Prompt],
    *,
    timeout: float | None = None,
    notice: Callable[[str], None] = warnings.warn,
) -> Tensor:
    """The values alone of `judge_images`, [B]."""
    return judge_images(reward, images, prompts, timeout=timeout, notice=notice).values


def judge_images(
    reward: Reward,
    images: Tensor,
    prompts: list[Prompt],
    *,
    timeout: float | None = None,
    notice: Callable[[str], None] = warnings.warn,
) -> Scores:
    """Scores [B] of images [B, 3, H, W], or of videos [B, F, 3, H, W], of which a reward of images sees the final frame.

    A reward abstains from a prompt with NaN for all its images. It fails with an error, an infinite number, or NaN for some
    images of a prompt of which it judged others.

    A batch on which the reward raises an error is halved, and halved again, until the images that it fails on are alone: one
    bad image of B costs 2 log2(B) calls more. `timeout` is the seconds that a call may take; a part that takes longer has
    failed, and is not tried again. `notice` is told why, if only some images failed.

    Raises RewardError if every image failed, or if the answer is not one real number per image.
    """
    if judges_videos(reward) and images.dim() == 4:
        raise RewardError(f"{name_of(reward)} judges videos, and these are images; it needs a model of videos, such as Wan")
    values, reason = _answers(reward, images if judges_videos(reward) else stills(images), prompts, timeout)
    missing = values.isinf() | (values.isnan() & ~_abstained(reward, values, prompts))
    if missing.all():
        if reason:
            raise RewardError(f"the reward failed on every image, last with {reason}")
        raise RewardError("the reward is NaN or infinite on every image")
    if reason:
        notice(f"reward {name_of(reward)} failed on some images, which get no score: {reason}")
    return Scores(torch.where(values.isfinite(), values, torch.nan), missing)


def _answers(reward: Reward, images: Tensor, prompts: list[Prompt], timeout: float | None) -> tuple[Tensor, str]:
    """What the reward says of every image, [B], infinite where it failed; the last reason of a failure, or nothing."""
    values = torch.full((len(images),), torch.inf)
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
        if getattr(reward, "judges_groups", False) or len(failed) == len(parts) >= MOST_PARTS:
            break
        parts = [half for part in failed if len(part) > 1 for half in _halves(part)]
    return values, reason


def judges_videos(reward: Reward) -> bool:
    """Whether a reward sees all frames of a video, which it says in its field `judges_videos`."""
    return bool(getattr(reward, "judges_videos", False))


def judges(reward: Reward, prompt: Prompt) -> bool:
    """Whether the reward's own rule, its method `judges`, lets it judge a prompt; without one it tells by what it answers."""
    rule: Callable[[Prompt], bool] | None = getattr(reward, "judges", None)
    return rule is None or rule(prompt)


def _abstained(reward: Reward, values: Tensor, prompts: list[Prompt]) -> Tensor:
    """Where NaN [B] means that the prompt is none for this reward: by its rule, or because none of its images has a score."""
    if hasattr(reward, "judges"):
        return torch.tensor([not judges(reward, prompt) for prompt in prompts])
    judged = {prompt.identity for prompt, silent in zip(prompts, values.isnan().tolist(), strict=True) if not silent}
    return torch.tensor([prompt.identity not in judged for prompt in prompts])


def _halves(part: range) -> tuple[range, range]:
    middle = (part.start + part.stop) // 2
    return range(part.start, middle), range(middle, part.stop)
