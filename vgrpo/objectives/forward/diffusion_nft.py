"""DiffusionNFT (arXiv:2509.16117): a positive and a negative velocity, mirrored at the old one, fit better and worse images.

With r in [0, 1] from the advantage and `v+ = b v + (1 - b) v_old`, `v- = (1 + b) v_old - b v`, the loss is
`5 (r l+ + (1 - r) l-) / b + kl mean((v - v_ref)^2)`, where l is the squared error of the x_0 prediction, normalised by its own
mean absolute value (eq. 6 and the public settings). Rollouts come from the lagging old weights.
"""

from dataclasses import dataclass

from torch import Tensor

from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, compared, normalized_x_0_error
from vgrpo.objectives.forward.lagging import LaggingObjective
from vgrpo.support.checks import require_within


@dataclass(frozen=True, kw_only=True)
class DiffusionNFT(LaggingObjective):
    """Hyper-parameters of DiffusionNFT; the defaults are its GenEval setting."""

    beta: float = 1.0
    """How far the positive and negative velocities lie from the old one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, "objective.", beta=(1e-4, 1e6))

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        v, v_old = v.float(), base["old"].float()
        r = (batch.advantage / 10 + 0.5).clamp(0, 1)[:, None]
        better = normalized_x_0_error(self.beta * v + (1 - self.beta) * v_old, batch.points)
        worse = normalized_x_0_error((1 + self.beta) * v_old - self.beta * v, batch.points)
        loss = 5 * ((r * better + (1 - r) * worse) / self.beta).mean(1)
        return self.held(loss, v, base), compared(v, v_old, batch.points)
