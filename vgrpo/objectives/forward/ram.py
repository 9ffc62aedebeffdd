"""RAM, Reinforce Adjoint Matching (arXiv:2605.10759): the velocity is pulled to the reference's, moved by the reward.

Rewards under a KL penalty tilt the law of the images and not that of their noising. Adjoint matching and a REINFORCE identity
then give a regression: the target is `v_ref + m A (u - v_old)` with u = eps - x_0, and m is an inverse weight of the KL
(eq. 17, as in the public code). Times are drawn with a density that grows with t, and every image has its own pairs. Averaged
weights draw the rollouts. Deviations: the loss is divided by m, which Adam does not notice and a limit on the gradient's norm
does; times are points of a schedule.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import DrawTimes, Share, noisy
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, compared
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.objectives.forward.target import flow_target, pull
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class RAM(ForwardObjective):
    """Hyper-parameters of RAM; the defaults are its setting for GenEval and OCR."""

    num_probes: int = 8
    reward_multiplier: float = 100.0
    """m: 100 for GenEval and OCR, 1000 for PickScore. The larger, the further from the reference."""
    old_schedule: Literal["default", "none"] = "default"
    """The old weights' lag: min(0.01 n, 0.9), or none, which keeps no copy of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.reward_multiplier > 0, f"objective.reward_multiplier={self.reward_multiplier}: must be above 0, about 100")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref")

    def old_decay(self, iteration: int) -> float | None:
        return None if self.old_schedule == "none" else min(0.01 * iteration, 0.9)

    @property
    def shared(self) -> tuple[Share, Share]:
        return "none", "none"

    def draw_times(self) -> DrawTimes:
        return noisy(self.num_probes, self.num_timesteps, self.shift)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        move = flow_target(batch.points) - base["old"].float()
        target = base["ref"].float() + self.reward_multiplier * flow.expand(batch.advantage, move) * move
        return pull(v, target, 1 / self.reward_multiplier), compared(v, base["old"], batch.points)
