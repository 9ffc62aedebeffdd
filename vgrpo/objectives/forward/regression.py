"""What reward-weighted regression and best-of-n fine-tuning have in common: the pretraining loss on the model's own images,
each with a weight that depends on its group."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import draw_probes, stratified
from vgrpo.core.types import Batch, Metrics, Path, Probes
from vgrpo.objectives.base import Baselines, Objective, WeightSet, distance, velocity_error
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class WeightedRegression(Objective):
    """The loss `w l + kl mean((v - v_ref)^2)` with the flow-matching loss l at independent, stratified points."""

    couples_images: ClassVar[bool] = True

    num_probes: int = 4
    num_timesteps: int = 40
    shift: float = 1.0
    """Time shift of the schedule that t is drawn from."""
    kl_weight: float = 0.0
    """Weight of the squared distance to the reference."""

    def __post_init__(self) -> None:
        flow.schedule(self.num_timesteps, self.shift)
        require(
            1 <= self.num_probes <= self.num_timesteps,
            f"objective.num_probes={self.num_probes}: must lie between 1 and objective.num_timesteps={self.num_timesteps}",
        )

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str, path: Path | None = None) -> Probes:
        times = stratified(self.num_probes, self.num_timesteps, self.shift)
        return draw_probes(x_0, group, *seed, draw_times=times, num_probes=self.num_probes, times="none", noise="none")

    @abstractmethod
    def weight(self, batch: Batch) -> Tensor:
        """Weights [B] of mean 1 in every group."""

    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        error = velocity_error(v, batch.probes).mean(1)
        loss = self.weight(batch) * error
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        s_old = -velocity_error(base["old"], batch.probes).mean(1)
        return loss, {"ratio": torch.exp(-error.detach() - s_old), "surrogate": s_old}
