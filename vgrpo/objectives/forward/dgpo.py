"""DGPO, Direct Group Preference Optimization (arXiv:2510.08425): the better part of a group is preferred to the worse.

With the pairs (t, eps) shared by the group and l the flow-matching loss, an image's loss is `w A l`, where the group's weight
`w = sigmoid(sum_group A beta (l - l_ref) / |group|)`, without gradient, fades once the group is ranked right.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.core.probes import DrawTimes, Share, independent
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, distance, velocity_error
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class DGPO(ForwardObjective):
    """Hyper-parameters of DGPO."""

    couples_images: ClassVar[bool] = True

    beta: float = 100.0
    """How fast a group that is ranked right loses weight: 10 to 100."""
    kl_weight: float = 0.0
    """Weight of the squared distance to the reference; not the paper's. The group's weight fades where all of it is ranked
    right, which bounds no single image that is pushed away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, f"objective.beta={self.beta}: must be above 0, usually 10 to 100")
        require_within(self, "objective.", beta=(1e-4, 1e6))
        require(self.kl_weight >= 0, f"objective.kl_weight={self.kl_weight}: must not be negative; 0 is the paper's")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("ref",)

    @property
    def shared(self) -> tuple[Share, Share]:
        return "group", "group"

    def draw_times(self) -> DrawTimes:
        return independent(self.num_probes, self.num_timesteps, self.shift)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        error, error_ref = velocity_error(v, batch.points), velocity_error(base["ref"], batch.points)  # [B, K]
        advantage = batch.advantage[:, None]
        margin = advantage * self.beta * (error - error_ref).detach()
        _, index, count = batch.group.unique(return_inverse=True, return_counts=True)
        total = torch.zeros(len(count), margin.shape[1], device=margin.device).index_add_(0, index, margin)
        weight = torch.sigmoid(total / count[:, None])[index]  # [B, K]
        s, s_old = -error.mean(1).detach(), -velocity_error(base["old"], batch.points).mean(1)
        metrics = {"ratio": torch.exp(s - s_old), "surrogate": s_old, "kl": distance(v, base["old"]).detach()}
        return (weight * advantage * error).mean(1) + self.kl_weight * distance(v, base["ref"]), metrics
