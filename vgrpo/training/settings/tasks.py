"""Several tasks in one run: each with its own prompts, rewards and weights."""

import math
import re
from dataclasses import dataclass

from vgrpo.core.types import MAIN
from vgrpo.support.checks import require, require_finite


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task beside the one of the run's own prompts and rewards."""

    name: str
    prompts: str
    """As a run's own."""
    reward: tuple[str, ...]
    """Judge this task's images alone; a reward that several tasks name is loaded once."""
    reward_weights: tuple[float, ...] | None = None
    """One weight per reward; None weighs them equally."""
    share: float = 1.0
    """Of the prompts of an iteration, where the run's own have 1."""
    eval_prompts: str | None = None
    """As a run's own."""

    def __post_init__(self) -> None:
        where = f"task {self.name}"
        require_finite(self, f"{where}: ")
        require(
            re.fullmatch(r"[a-z0-9_-]+", self.name) is not None and self.name != MAIN,
            f"task {self.name!r}: a name is of small letters, digits, - and _, and {MAIN!r} is the run's own task",
        )
        check_rewards(self.reward, self.reward_weights, f"{where}: ")
        require(self.share > 0, f"{where}: share={self.share}: must be above 0; leave the task out instead")


def check_rewards(reward: tuple[str, ...], weights: tuple[float, ...] | None, where: str = "") -> None:
    """Raises ValueError if no reward is named, one twice, or the weights are not one for each reward, or all 0."""
    require(len(reward) >= 1, f"{where}reward is empty: name at least one, e.g. --reward sprites")
    require(len(set(reward)) == len(reward), f"{where}reward={' '.join(reward)}: name each once; a weight makes one count more")
    require(
        weights is None or len(weights) == len(reward),
        f"{where}reward_weights={weights}: give one weight for each of the rewards {reward}",
    )
    require(weights is None or any(weights), f"{where}reward_weights={weights}: all are 0, so there is nothing to learn")


def weight_table(
    tasks: dict[str, tuple[tuple[str, ...], tuple[float, ...] | None]],
) -> tuple[list[str], dict[str, list[float]]]:
    """From every task's rewards and weights: all rewards, each once, and for every task a weight of each; NaN for those that
    are not its own."""
    names = list(dict.fromkeys(name for reward, _ in tasks.values() for name in reward))
    table = {}
    for task, (reward, weights) in tasks.items():
        own = dict(zip(reward, weights or [1.0] * len(reward), strict=True))
        table[task] = [own.get(name, math.nan) for name in names]
    return names, table
