"""Reward-weighted regression (arXiv:2302.12192; DDPO's baseline, arXiv:2305.13301): the pretraining loss on the model's own
images, weighted by `softmax(A / temperature)` over their group. Deviation: the group-normalised advantage takes the place of
the raw reward, so that one temperature fits every reward."""

from dataclasses import dataclass

from torch import Tensor

from vgrpo.core.types import Batch, Probes
from vgrpo.objectives.forward.regression import WeightedRegression, exponential_weight
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
        return exponential_weight(batch, self.temperature)
