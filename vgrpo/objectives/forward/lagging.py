"""What DiffusionNFT and the algorithms that started from its settings have in common: points at the solver's own times, old
weights that lag behind and draw the rollouts, a distance to the reference."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vgrpo.core.probes import DrawTimes, first_steps
from vgrpo.objectives.base import Baselines, WeightSet, distance
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class LaggingObjective(ForwardObjective):
    """Defaults for ten solver steps, as for DiffusionNFT's GenEval setting (arXiv:2509.16117)."""

    num_probes: int = 9
    """The first so many of the schedule's times, each with fresh noise."""
    num_timesteps: int = 10
    """Steps of the rollout's schedule."""
    kl_weight: float = 1e-4
    """Weight of the squared distance to the reference; 0 keeps no reference and costs no forward."""
    old_schedule: Literal["default", "late", "none"] = "default"
    """The old weights' lag: min(0.001 n, 0.5), or none until n = 75 and then min(0.0075 (n - 75), 0.999). With "none" the old
    weights are the current ones: no copy is kept, and the first step after a rollout costs no forward of theirs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kl_weight >= 0, f"objective.kl_weight={self.kl_weight}: must not be negative")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def old_decay(self, iteration: int) -> float | None:
        if self.old_schedule == "late":
            return min(max(0.0075 * (iteration - 75), 0.0), 0.999)
        return min(0.001 * iteration, 0.5) if self.old_schedule == "default" else None

    def draw_times(self) -> DrawTimes:
        return first_steps(self.num_probes, self.num_timesteps, self.shift)

    def held(self, loss: Tensor, v: Tensor, base: Baselines) -> Tensor:
        """A loss [B] and the distance to the reference."""
        return loss + self.kl_weight * distance(v, base["ref"]) if self.kl_weight else loss
