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
from vgrpo.rewards.sizes import note_parts, parts_of

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


class Answers(NamedTuple):
    """What a reward said of B images."""

    values: Tensor  # [B] fp32 on the CPU; infinite where it failed
    error: Exception | None  # of the last call that failed
    news: tuple[str, ...] = ()  # what a person should know


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
    answers = ask(reward, images, prompts, timeout)
    scores = settled(reward, answers.values, prompts)
    if scores.failed.all():
        raise failed_on_all(answers.error)
    if answers.error and scores.failed.any():
        notice(failed_on_some(reward, str(answers.error)))
    for news in answers.news:
        notice(f"reward {name_of(reward)}: {news}")
    return scores


def settled(reward: Reward, values: Tensor, prompts: list[Prompt]) -> Scores:
    """What the answers [B] to B images mean. It takes all images of a prompt to tell that a reward abstained from it."""
    missing = values.isinf() | (values.isnan() & ~_abstained(reward, values, prompts))
    return Scores(torch.where(values.isfinite(), values, torch.nan), missing)


def failed_on_all(error: Exception | None) -> RewardError:
    """What to raise where no image has a score, by the last call's error if there was one."""
    if isinstance(error, RewardError):
        return error
    if error:
        return RewardError(f"the reward failed on every image, last with {error}")
    return RewardError("the reward is NaN or infinite on every image")


def failed_on_some(reward: Reward, reason: str) -> str:
    return f"reward {name_of(reward)} failed on some images, which get no score: {reason}"


def ask(reward: Reward, images: Tensor, prompts: list[Prompt], timeout: float | None = None) -> Answers:
    """The reward's answers to images [B, 3, H, W] or videos [B, F, 3, H, W]. A batch on which it raises an error is halved, and
    halved again, as `judge_images` says; where that has helped twice, later calls are as small as those that did. Raises
    RewardError if an answer is not one real number per image."""
    if judges_videos(reward) and images.dim() == 4:
        raise RewardError(f"{name_of(reward)} judges videos, and these are images; it needs a model of videos, such as Wan")
    images = images if judges_videos(reward) else stills(images)
    values = torch.full((len(images),), torch.inf)
    whole = getattr(reward, "judges_groups", False)
    parts = asked = [range(len(images))] if whole else parts_of(reward, len(images))
    last: CallFailed | None = None
    taken = list[range]()
    while parts:
        failed = list[range]()
        for part in parts:
            rows = slice(part.start, part.stop)
            try:
                values[rows] = call(reward, images[rows], prompts[rows], timeout)
                taken.append(part)
            except NoAnswer as error:
                last = error
            except CallFailed as error:
                last = error
                failed.append(part)
        if whole or len(failed) == len(parts) >= MOST_PARTS:
            break
        parts = [half for part in failed if len(part) > 1 for half in _halves(part)]
    was_too_large = last is not None and sum(map(len, taken)) == len(images)
    return Answers(values, last, note_parts(reward, asked, taken) if was_too_large else ())


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
        return torch.tensor([not judges(reward, prompt) for prompt in prompts], dtype=torch.bool)
    judged = {prompt.identity for prompt, silent in zip(prompts, values.isnan().tolist(), strict=True) if not silent}
    return torch.tensor([prompt.identity not in judged for prompt in prompts], dtype=torch.bool)


def _halves(part: range) -> tuple[range, range]:
    middle = (part.start + part.stop) // 2
    return range(part.start, middle), range(middle, part.stop)
