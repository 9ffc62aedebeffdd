"""RVM (arXiv:2608.23664): every velocity is regressed to itself, moved by the gradient one wants.

With u = eps - x_0 the gradient is `g = A (v - u) + lambda (v - v_ref)`, and the loss `1/2 mean((v - target)^2)` with the
target v - g, without gradient. A is a tenth of the group's advantage. Times are uniform. Deviations: lambda is not in what we
read of the paper and is chosen as RAM's (arXiv:2605.10759), whose multiplier of 100 is a lambda of 1e-3 beside a tenth of A;
the anchor is the reference, and not averaged weights, whose decay we do not know.
"""

from dataclasses import dataclass

from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import DrawTimes, Share, independent
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, compared
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.objectives.forward.target import flow_target, pull
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class RVM(ForwardObjective):
    """Hyper-parameters of RVM."""

    advantage_scale: float = 10.0
    """Advantages are divided by it."""
    kl_weight: float = 1e-3
    """lambda, the pull towards the reference. Without one, bad images push without end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.advantage_scale > 0, f"objective.advantage_scale={self.advantage_scale}: must be above 0, usually 10")
        require(self.kl_weight >= 0, f"objective.kl_weight={self.kl_weight}: must not be negative")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("ref",) if self.kl_weight else ()

    @property
    def shared(self) -> tuple[Share, Share]:
        return "none", "none"

    def draw_times(self) -> DrawTimes:
        return independent(self.num_probes, self.num_timesteps, self.shift)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        here = v.detach().float()
        step = flow.expand(batch.advantage / self.advantage_scale, here) * (here - flow_target(batch.points))
        if self.kl_weight:
            step = step + self.kl_weight * (here - base["ref"].float())
        return pull(v, here - step, 0.5), compared(v, base["old"], batch.points)
