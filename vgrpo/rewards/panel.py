"""The rewards of a run together: who judges which prompts, with what weight.

Dimensions: B images, R rewards.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes, first_text
from vgrpo.core.types import MAIN, Prompt
from vgrpo.rewards.base import Answers, Reward, RewardError, Scores, failed_on_all, failed_on_some, settled
from vgrpo.rewards.calls import name_of, news_of
from vgrpo.rewards.judging import Judging
from vgrpo.rewards.lanes import Lane


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

    def asked(self, prompts: list[Prompt]) -> Tensor:
        """Which rewards judge each prompt's image, [B, R]."""
        return ~self.weights_of(prompts).isnan()

    def judging(
        self,
        monitors: Sequence[Reward] = (),
        *,
        size: int | None = None,
        device: torch.device | None = None,
        lane: Lane | None = None,
    ) -> Judging:
        """These rewards, and then those that are only watched, at work on images that come in parts. `size` images are judged
        together; `device` is the one that draws; `lane` has the thread that calls rewards, where they are at work already."""

        def asked(prompts: list[Prompt]) -> Tensor:
            return torch.cat([self.asked(prompts), torch.ones(len(prompts), len(monitors), dtype=torch.bool)], 1)

        return Judging([*self.rewards, *monitors], asked, len(self.rewards), size=size, device=device, lane=lane)

    def judge(
        self,
        images: Tensor,
        prompts: list[Prompt],
        notice: Callable[[str], None] = warnings.warn,
        processes: Processes = ALONE,
        *,
        size: int | None = None,
        lane: Lane | None = None,
    ) -> Scores:
        """Every reward of images [B, 3, H, W], `size` at a time, [B, R]. Raises RewardError as `scores` does."""
        with self.judging(size=size, lane=lane) as judging:
            judging.add(images, prompts)
            return self.scores(judging, prompts, notice, processes)

    def scores(
        self,
        judging: Judging,
        prompts: list[Prompt],
        notice: Callable[[str], None] = warnings.warn,
        processes: Processes = ALONE,
    ) -> Scores:
        """What the images of B prompts scored with every reward, [B, R]. One that is not asked about a prompt abstains.

        Raises RewardError if a reward failed on all images that it was asked about in all processes, which judge at the same
        time.
        """
        asked = self.asked(prompts)
        columns = [
            agreed(reward, judging.answers(index), prompts, asked[:, index], notice, processes)
            for index, reward in enumerate(self.rewards)
        ]
        values, failed = (torch.stack(parts, 1) for parts in zip(*columns, strict=True))
        return Scores(values, failed)

    def close(self) -> None:
        """End the processes that rewards have started."""
        close_rewards(self.rewards)


def close_rewards(rewards: Iterable[Reward]) -> None:
    for reward in rewards:
        if hasattr(reward, "end_workers"):
            reward.end_workers()


def agreed(
    reward: Reward, answers: Answers, prompts: list[Prompt], asked: Tensor, notice: Callable[[str], None], processes: Processes
) -> Scores:
    """A reward's scores [B] of the images that it was `asked` about, NaN for the others. Every process tells `notice` why it
    failed on some images in any process. Raises RewardError, in every process with the reason, if it failed on all."""
    values, failed = torch.full(asked.shape, math.nan), torch.zeros_like(asked)
    rows = asked.nonzero()[:, 0]
    values[rows], failed[rows] = settled(reward, answers.values[rows], [prompts[row] for row in rows.tolist()])
    news = "; ".join([*news_of(reward), *answers.news])
    counts = torch.tensor([len(rows), int(failed.sum()), len(news)])
    num_asked, num_failed, some_news = processes.total(counts).tolist()
    if some_news:
        notice(f"reward {name_of(reward)}: {first_text(news, processes)}")
    if num_failed == 0:
        return Scores(values, failed)
    own = answers.error
    reason = first_text("" if own is None else str(own), processes)
    if num_failed == num_asked:
        others = RewardError(f"the reward failed on every image, in another process with {reason}")
        raise failed_on_all(own or (others if reason else None))
    if reason:
        notice(failed_on_some(reward, reason))
    return Scores(values, failed)
