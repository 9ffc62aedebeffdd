"""Best-of-n fine-tuning: the pretraining loss on the best image of every group (RAFT, arXiv:2304.06767). Ties share the weight,
and a group without any difference teaches nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.objectives.base import Baselines, Objective, WeightSet, check, distance, velocity_error
from vgrpo.probes import draw_probes, stratified
from vgrpo.types import Batch, Metrics, Path, Probes


@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """Hyper-parameters of best-of-n fine-tuning."""

    couples_images: ClassVar[bool] = True

    num_probes: int = 4
    num_timesteps: int = 40
    kl_weight: float = 0.0
    """Weight of the squared distance to the reference."""

    def __post_init__(self) -> None:
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
        """Weights [B]: the group's size, shared by its best images, where its advantages differ at all."""
        _, index, count = batch.group.unique(return_inverse=True, return_counts=True)
        best = torch.full((len(count),), -torch.inf, device=index.device)
        best = best.scatter_reduce(0, index, torch.where(batch.valid, batch.advantage, -torch.inf), "amax")
        chosen = (batch.valid & (batch.advantage == best[index]) & (batch.advantage > 0)).float()
        shared = torch.zeros(len(count), device=index.device).index_add_(0, index, chosen)
        return chosen * (count / shared.clamp(min=1))[index]

    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        error = velocity_error(v, batch.probes).mean(1)
        loss = self._weight(batch) * error
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        s_old = -velocity_error(base["old"], batch.probes).mean(1)
        return loss, {"ratio": torch.exp(-error.detach() - s_old), "surrogate": s_old}
