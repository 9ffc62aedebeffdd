"""AWM, Advantage Weighted Matching (arXiv:2509.25050): the flow-matching loss, weighted by advantages, as a policy gradient.

`log p = -(t / p) [(l + 1e-10)^p - 1e-10^p]` from the flow-matching loss l of one (image, t); one ratio per pair; the
advantage is divided by 5; squared distances hold the model near the reference and near the averaged weights, which draw the
rollouts. Times are stratified over the first 90% of the schedule and shared by the iteration, the noise is not.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import DrawTimes, stratified
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, distance, velocity_error
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require, require_within

TINY = 1e-10


@dataclass(frozen=True, kw_only=True)
class AWM(ForwardObjective):
    """Hyper-parameters of AWM; the defaults are its public settings."""

    num_probes: int = 6
    num_timesteps: int = 14
    """Steps of the rollout's schedule."""
    power: float = 0.25
    """p in the likelihood."""
    advantage_scale: float = 5.0
    """Advantages are divided by it."""
    kl_weight: float = 1e-3
    """Weight of the squared distance to the reference."""
    old_weight: float = 1.0
    """Weight of the squared distance to the averaged weights."""
    old_schedule: Literal["default", "none"] = "default"
    """The averaged weights' lag: min(0.001 n, 0.3). With "none" they are the current ones: no copy is kept, and the first step
    after a rollout costs no forward of theirs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.power > 0, f"objective.power={self.power}: must be above 0; the paper's is 0.25")
        require_within(self, "objective.", power=(0, 10), advantage_scale=(1e-4, 1e6), kl_weight=(0, 1e6), old_weight=(0, 1e6))

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        weights: dict[WeightSet, float] = {"old": self.old_weight, "ref": self.kl_weight}
        return tuple(name for name, weight in weights.items() if weight)

    def old_decay(self, iteration: int) -> float | None:
        return min(0.3, 0.001 * iteration) if self.old_schedule == "default" else None

    @property
    def most_probes(self) -> int:
        return int(0.9 * self.num_timesteps)

    def draw_times(self) -> DrawTimes:
        usable = self.most_probes
        last = float(flow.schedule(self.num_timesteps, self.shift)[usable - 1 : usable + 1].mean())
        return stratified(self.num_probes, self.num_timesteps, self.shift, last)

    def _log_likelihood(self, v: Tensor, probes: Probes) -> Tensor:
        """[B, K]"""
        error = velocity_error(v, probes)
        return -probes.times() / self.power * ((error + TINY) ** self.power - TINY**self.power)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        log_p, log_p_old = (self._log_likelihood(w, batch.points) for w in (v, base["old"]))
        # On-policy by construction: the ratio's value is 1 and only its gradient matters.
        ratio = torch.exp(log_p - log_p.detach())
        loss = -(batch.advantage[:, None] / self.advantage_scale * ratio).mean(1)
        if self.old_weight:
            loss = loss + self.old_weight * distance(v, base["old"])
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        metrics = {
            "ratio": torch.exp((log_p - log_p_old).mean(1)).detach(),
            "surrogate": log_p_old.mean(1),
            "kl": distance(v, base["old"]).detach(),
        }
        return loss, metrics
