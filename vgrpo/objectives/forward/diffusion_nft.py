"""DiffusionNFT (arXiv:2509.16117): a positive and a negative velocity, mirrored at the old one, fit better and worse images.

With r in [0, 1] from the advantage and `v+ = b v + (1 - b) v_old`, `v- = (1 + b) v_old - b v`, the loss is
`5 (r l+ + (1 - r) l-) / b + kl mean((v - v_ref)^2)`, where l is the squared error of the x_0 prediction, normalised by its own
mean absolute value (eq. 6 and the public settings). Rollouts come from the lagging old weights.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import DrawTimes, first_steps
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, distance, velocity_error
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class DiffusionNFT(ForwardObjective):
    """Hyper-parameters of DiffusionNFT; the defaults are its GenEval setting."""

    num_probes: int = 9
    """The first so many of the schedule's times, each with fresh noise."""
    num_timesteps: int = 10
    """Steps of the rollout's schedule."""
    beta: float = 1.0
    """How far the positive and negative velocities lie from the old one."""
    kl_weight: float = 1e-4
    old_schedule: Literal["default", "late"] = "default"
    """The old weights' lag: min(0.001 n, 0.5), or none until n = 75 and then min(0.0075 (n - 75), 0.999)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, f"objective.beta={self.beta}: must be above 0, usually 0.1 or 1")
        require_within(self, "objective.", beta=(1e-4, 1e6), kl_weight=(0, 1e6))

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def old_decay(self, iteration: int) -> float:
        if self.old_schedule == "default":
            return min(0.001 * iteration, 0.5)
        return min(max(0.0075 * (iteration - 75), 0.0), 0.999)

    def draw_times(self) -> DrawTimes:
        return first_steps(self.num_probes, self.num_timesteps, self.shift)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        v, v_old = v.float(), base["old"].float()
        r = (batch.advantage / 10 + 0.5).clamp(0, 1)[:, None]
        better = self._error(self.beta * v + (1 - self.beta) * v_old, batch.points)
        worse = self._error((1 + self.beta) * v_old - self.beta * v, batch.points)
        loss = 5 * ((r * better + (1 - r) * worse) / self.beta).mean(1)
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        s, s_old = (-velocity_error(w, batch.points).mean(1).detach() for w in (v, v_old))
        return loss, {"ratio": torch.exp(s - s_old), "surrogate": s_old, "kl": distance(v, v_old).detach()}

    @staticmethod
    def _error(v: Tensor, probes: Probes) -> Tensor:
        """Self-normalised squared error of the x_0 prediction at every probe, [B, K]."""
        error = flow.predict_x_0(probes.x_t(), v, probes.times()) - probes.x_0[:, None]
        return error.square().flatten(2).mean(2) / error.detach().abs().flatten(2).mean(2).clamp(min=1e-5)
