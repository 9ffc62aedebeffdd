"""DGPO, Direct Group Preference Optimization (arXiv:2510.08425): the better part of a group is preferred to the worse.

With the pairs (t, eps) shared by the group and l the flow-matching loss, an image's loss is `w A l`, where the group's weight
`w = sigmoid(sum_group A beta (l - l_ref) / |group|)`, without gradient, fades once the group is ranked right.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import draw_probes, independent
from vgrpo.core.types import Batch, Metrics, Path, Probes
from vgrpo.objectives.base import Baselines, Objective, WeightSet, distance, velocity_error
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class DGPO(Objective):
    """Hyper-parameters of DGPO."""

    couples_images: ClassVar[bool] = True

    num_probes: int = 4
    num_timesteps: int = 40
    shift: float = 1.0
    """Time shift of the schedule that t is drawn from."""
    beta: float = 100.0
    """How fast a group that is ranked right loses weight: 10 to 100."""

    def __post_init__(self) -> None:
        flow.schedule(self.num_timesteps, self.shift)
        require(self.num_probes >= 1, f"objective.num_probes={self.num_probes}: at least 1 pair per image")
        require(self.beta > 0, f"objective.beta={self.beta}: must be above 0, usually 10 to 100")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref")

    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str, path: Path | None = None) -> Probes:
        times = independent(self.num_probes, self.num_timesteps, self.shift)
        return draw_probes(x_0, group, *seed, draw_times=times, num_probes=self.num_probes, times="group", noise="group")

    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        error, error_ref = velocity_error(v, batch.probes), velocity_error(base["ref"], batch.probes)  # [B, K]
        advantage = batch.advantage[:, None]
        margin = advantage * self.beta * (error - error_ref).detach()
        _, index, count = batch.group.unique(return_inverse=True, return_counts=True)
        total = torch.zeros(len(count), margin.shape[1], device=margin.device).index_add_(0, index, margin)
        weight = torch.sigmoid(total / count[:, None])[index]  # [B, K]
        s, s_old = -error.mean(1).detach(), -velocity_error(base["old"], batch.probes).mean(1)
        metrics = {"ratio": torch.exp(s - s_old), "surrogate": s_old, "kl": distance(v, base["ref"]).detach()}
        return (weight * advantage * error).mean(1), metrics
