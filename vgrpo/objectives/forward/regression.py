"""What reward-weighted regression and best-of-n fine-tuning have in common: the pretraining loss on the model's own images,
each with a weight that depends on its group."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vgrpo.core.probes import Share
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, distance, velocity_error
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require_within


@dataclass(frozen=True, kw_only=True)
class WeightedRegression(ForwardObjective):
    """The loss `w l + kl mean((v - v_ref)^2)` with the flow-matching loss l at independent, stratified points."""

    couples_images: ClassVar[bool] = True

    kl_weight: float = 0.0
    """Weight of the squared distance to the reference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, "objective.", kl_weight=(0, 1e6))

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("ref",) if self.kl_weight else ()

    @property
    def shared(self) -> tuple[Share, Share]:
        return "none", "none"

    @abstractmethod
    def weight(self, batch: Batch[Probes]) -> Tensor:
        """Weights [B] of mean 1 in every group."""

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        error = velocity_error(v, batch.points).mean(1)
        loss = self.weight(batch) * error
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        s_old = -velocity_error(base["old"], batch.points).mean(1)
        return loss, {"ratio": torch.exp(-error.detach() - s_old), "surrogate": s_old}


def exponential_weight(batch: Batch[Probes], temperature: float = 1.0) -> Tensor:
    """`exp(A / temperature)` of every image, divided by its mean over the images of the group that have a reward, [B]."""
    # Advantages are bounded, so the exponent needs no shift.
    weight = torch.exp(batch.advantage / temperature) * batch.valid
    groups, index = batch.group.unique(return_inverse=True)
    zeros = torch.zeros(len(groups), device=weight.device)
    total, count = (zeros.index_add(0, index, each.to(weight.dtype)) for each in (weight, batch.valid))
    return weight * (count / total.clamp(min=1e-12))[index]
