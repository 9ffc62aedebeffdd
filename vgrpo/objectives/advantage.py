"""Rewards to advantages. Failed rewards are NaN on the way in; their images get advantage 0 and count for nothing.

Dimensions: B images, R rewards.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.support.checks import require, require_finite


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
        """Rewards [B, R] (NaN where failed), weights [R] and group ids [B] to advantages [B]. A group is whole in one process;
        the standard deviation of all images is over all processes."""
        weights = weights / weights.sum()
        if self.combine == "rewards":
            rewards, weights = rewards @ weights[:, None], weights.new_ones(1)
        columns = [self._normalize(column, group, num_groups, processes) for column in rewards.unbind(1)]
        return (torch.stack(columns, 1) @ weights).clamp(-self.clip, self.clip)

    def _normalize(self, rewards: Tensor, group: Tensor, num_groups: int, processes: Processes) -> Tensor:
        valid = ~rewards.isnan()
        mean, group_std = group_moments(rewards, group, num_groups)
        centred = torch.where(valid, rewards - mean[group], 0.0)
        if self.std != "none":
            std = _deviation(processes.gather(rewards)) if self.std == "global" else group_std[group]
            centred = centred / (std + 1e-4)
        # A constant group teaches nothing; rounding of its mean must not be divided by a tiny deviation.
        return torch.where(group_std[group] < 1e-6, 0.0, centred)


def _deviation(rewards: Tensor) -> Tensor:
    return rewards[~rewards.isnan()].std(correction=0)


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
