"""AWM, Advantage Weighted Matching (arXiv:2509.25050): the flow-matching loss, weighted by advantages, as a policy gradient.

`log p = -(t / p) [(l + 1e-10)^p - 1e-10^p]` from the flow-matching loss l of one (image, t); one ratio per pair; the
advantage is divided by 5; squared distances hold the model near the reference and near the averaged weights, which draw the
rollouts. Times are stratified over the first 90% of the schedule and shared by the iteration, the noise is not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import draw_probes, stratified
from vgrpo.core.types import Batch, Metrics, Path, Probes
from vgrpo.objectives.base import Baselines, Objective, WeightSet, distance, velocity_error
from vgrpo.support.checks import require

TINY = 1e-10


@dataclass(frozen=True, kw_only=True)
class AWM(Objective):
    """Hyper-parameters of AWM; the defaults are its public settings."""

    num_probes: int = 6
    num_timesteps: int = 14
    """Steps of the rollout's schedule."""
    shift: float = 1.0
    """Time shift of the rollout's schedule."""
    power: float = 0.25
    """p in the likelihood."""
    advantage_scale: float = 5.0
    """Advantages are divided by it."""
    kl_weight: float = 1e-3
    """Weight of the squared distance to the reference."""
    old_weight: float = 1.0
    """Weight of the squared distance to the averaged weights."""

    def __post_init__(self) -> None:
        flow.schedule(self.num_timesteps, self.shift)
        usable = int(0.9 * self.num_timesteps)
        require(
            1 <= self.num_probes <= usable,
            f"objective.num_probes={self.num_probes}: must lie between 1 and {usable}, nine tenths of num_timesteps",
        )
        require(self.power > 0, f"objective.power={self.power}: must be above 0; the paper's is 0.25")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def old_decay(self, iteration: int) -> float:
        return min(0.3, 0.001 * iteration)

    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str, path: Path | None = None) -> Probes:
        usable = int(0.9 * self.num_timesteps)
        last = float(flow.schedule(self.num_timesteps, self.shift)[usable - 1 : usable + 1].mean())
        times = stratified(self.num_probes, self.num_timesteps, self.shift, last)
        return draw_probes(x_0, group, *seed, draw_times=times, num_probes=self.num_probes, times="batch", noise="none")

    def _log_likelihood(self, v: Tensor, probes: Probes) -> Tensor:
        """[B, K]"""
        error = velocity_error(v, probes)
        return -probes.times() / self.power * ((error + TINY) ** self.power - TINY**self.power)

    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        log_p, log_p_old = (self._log_likelihood(w, batch.probes) for w in (v, base["old"]))
        # On-policy by construction: the ratio's value is 1 and only its gradient matters.
        ratio = torch.exp(log_p - log_p.detach())
        loss = -(batch.advantage[:, None] / self.advantage_scale * ratio).mean(1)
        loss = loss + self.old_weight * distance(v, base["old"])
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        metrics = {
            "ratio": torch.exp((log_p - log_p_old).mean(1)).detach(),
            "surrogate": log_p_old.mean(1),
            "kl": distance(v, base["old"]).detach(),
        }
        return loss, metrics
