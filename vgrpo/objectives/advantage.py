"""Rewards to advantages. A reward that is missing is NaN on the way in; an image without any gets advantage 0 and counts for
nothing.

Nothing here depends on the unit of a reward: rewards in thousandths teach as much as the same ones in full.

Dimensions: B images, R rewards.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.support.checks import require, require_finite

ROUNDING = 1e-6
"""Of the rewards' mean size: numbers of fp32 that differ by less may differ by rounding alone."""
LEAST_DEVIATION = 1e-4
"""Of the deviation of all images: is added to that of a group, so that a group of nearly equal images stays quiet."""


@dataclass(frozen=True, kw_only=True)
class Advantages:
    """How rewards become advantages."""

    std: Literal["group", "global", "none"] = "global"
    """Divide by the standard deviation of each group, of all images of the iteration (steadier on coarse rewards), or by
    nothing."""
    clip: float = 5.0
    """Hard limit on the size of an advantage."""
    combine: Literal["rewards", "advantages"] = "advantages"
    """With several rewards: add the weighted rewards, or the weighted advantages of each."""

    def __post_init__(self) -> None:
        require_finite(self, "advantage.")
        require(self.clip > 0, f"advantage.clip={self.clip}: the limit must be above 0; 5 is usual")

    def __call__(
        self, rewards: Tensor, weights: Tensor, group: Tensor, num_groups: int, processes: Processes = ALONE
    ) -> Tensor:
        """Rewards [B, R] (NaN where there is none), weights [R] or [B, R] and group ids [B] to advantages [B]. Each reward is
        normalised over the images that it judged. A group is whole in one process; all images are those of all processes."""
        if self.combine == "rewards":
            rewards, weights = weighted_mean(rewards, weights)[:, None], weights.new_ones(1)
        columns = [self._normalize(column, group, num_groups, processes) for column in rewards.unbind(1)]
        return weighted_mean(torch.stack(columns, 1), weights).nan_to_num(0.0).clamp(-self.clip, self.clip)

    def _normalize(self, rewards: Tensor, group: Tensor, num_groups: int, processes: Processes) -> Tensor:
        mean, group_std = group_moments(rewards.double(), group, num_groups)
        everything = processes.gather(rewards, group)
        deviation = _deviation(everything)
        advantage = rewards - mean[group]
        if self.std != "none":
            std = deviation if self.std == "global" else group_std[group]
            advantage = advantage / (std + LEAST_DEVIATION * deviation)
        # A constant group teaches nothing; rounding of its rewards must not be divided by a tiny deviation.
        constant = is_constant(group_std, everything)[group] & ~rewards.isnan()
        return torch.where(constant, 0.0, advantage).to(rewards.dtype)


def _deviation(rewards: Tensor) -> Tensor:
    known = rewards[~rewards.isnan()].double()
    return (known - known.mean()).square().mean().sqrt()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Of values [B, R] (NaN where there is none) with weights [R] or [B, R]: the weighted sum of those that are there over the
    sum of their weights' magnitudes, [B]. A negative weight is a penalty. NaN where nothing with a weight is there."""
    known = ~values.isnan()
    weights = torch.where(known, weights.to(values.dtype), 0.0)
    return (torch.where(known, values, 0.0) * weights).sum(1) / weights.abs().sum(1)


def is_constant(group_std: Tensor, rewards: Tensor) -> Tensor:
    """Whether the rewards of a group differ by rounding at most, from its deviation [num_groups] and all rewards [B]."""
    return group_std <= ROUNDING * rewards.double().abs().nanmean().nan_to_num(0.0)


def group_moments(values: Tensor, group: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of the valid values of each group, [num_groups] each (0 for an empty group)."""
    valid = ~values.isnan()
    known, index = values[valid].double(), group[valid]

    def group_mean(x: Tensor) -> Tensor:
        count = torch.bincount(index, minlength=num_groups).clamp(min=1)
        return torch.zeros(num_groups, dtype=torch.float64, device=x.device).index_add_(0, index, x) / count

    mean = group_mean(known)
    std = group_mean((known - mean[index]).square()).sqrt()
    return mean.to(values.dtype), std.to(values.dtype)


def extremes(advantage: Tensor, group: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The best and the worst images of every group: rows, in order, of `share` of each group (at least one pair), half of them
    from either end, and their advantages, centred again. Without centring the pushes away from bad images no longer cancel
    those towards good ones, and training diverges."""
    rows, values = [], []
    worth = advantage.reshape(len(advantage), -1).mean(1)
    for g in group.unique():
        members = (group == g).nonzero()[:, 0]
        order = members[worth[members].argsort(stable=True)]
        half = max(1, round(share * len(members) / 2))
        kept = torch.cat([order[:half], order[-half:]]).unique()
        rows.append(kept)
        values.append(advantage[kept] - advantage[kept].mean(0))
    return torch.cat(rows), torch.cat(values)


def soft_clip(advantage: Tensor, eta: float) -> Tensor:
    """`eta tanh(A / eta)`: the identity near 0, never beyond eta (V-GRPO, arXiv:2604.23380)."""
    return eta * torch.tanh(advantage / eta)
