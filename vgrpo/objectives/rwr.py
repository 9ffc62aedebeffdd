"""Reward-weighted regression (arXiv:2302.12192; DDPO's baseline, arXiv:2305.13301): the pretraining loss on the model's own
images, weighted by `softmax(A / temperature)` over their group. Deviation: the group-normalised advantage takes the place of
the raw reward, so that one temperature fits every reward."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.objectives.base import Baselines, Objective, WeightSet, check, distance, velocity_error
from vgrpo.probes import draw_probes, stratified
from vgrpo.types import Batch, Metrics, Path, Probes


@dataclass(frozen=True, kw_only=True)
class RWR(Objective):
    """Hyper-parameters of reward-weighted regression."""

    couples_images: ClassVar[bool] = True

    num_probes: int = 4
    num_timesteps: int = 40
    temperature: float = 1.0
    """Of the weights, in units of the advantage."""
    kl_weight: float = 0.0
    """Weight of the squared distance to the reference."""

    def __post_init__(self) -> None:
        check(self.temperature > 0, f"objective.temperature={self.temperature}: must be above 0")
        check(
            1 <= self.num_probes <= self.num_timesteps,
            f"objective.num_probes={self.num_probes}: must lie between 1 and objective.num_timesteps={self.num_timesteps}",
        )

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str, path: Path | None = None) -> Probes:
        times = stratified(self.num_probes, self.num_timesteps)
        return draw_probes(x_0, group, *seed, draw_times=times, num_probes=self.num_probes, times="none", noise="none")

    def _weight(self, batch: Batch) -> Tensor:
        """Weights [B] of mean 1 in every group."""
        # Advantages are bounded, so the exponent needs no shift.
        weight = torch.exp(batch.advantage / self.temperature) * batch.valid
        _, index, count = batch.group.unique(return_inverse=True, return_counts=True)
        total = torch.zeros(len(count), device=weight.device).index_add_(0, index, weight)
        return weight * (count / total.clamp(min=1e-12))[index]

    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        error = velocity_error(v, batch.probes).mean(1)
        loss = self._weight(batch) * error
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        s_old = -velocity_error(base["old"], batch.probes).mean(1)
        return loss, {"ratio": torch.exp(-error.detach() - s_old), "surrogate": s_old}
