"""Reward-weighted regression (arXiv:2302.12192; DDPO's baseline, arXiv:2305.13301): the pretraining loss on the model's own
images, weighted by `softmax(A / temperature)` over their group. Deviation: the group-normalised advantage takes the place of
the raw reward, so that one temperature fits every reward."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.types import Batch, Probes
from vgrpo.objectives.forward.regression import WeightedRegression
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class RWR(WeightedRegression):
    """Hyper-parameters of reward-weighted regression."""

    temperature: float = 1.0
    """Of the weights, in units of the advantage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"objective.temperature={self.temperature}: must be above 0")
        require_within(self, "objective.", temperature=(1e-4, 1e4))

    def weight(self, batch: Batch[Probes]) -> Tensor:
        """Weights [B] of mean 1 in every group."""
        # Advantages are bounded, so the exponent needs no shift.
        weight = torch.exp(batch.advantage / self.temperature) * batch.valid
        _, index, count = batch.group.unique(return_inverse=True, return_counts=True)
        total = torch.zeros(len(count), device=weight.device).index_add_(0, index, weight)
        return weight * (count / total.clamp(min=1e-12))[index]
