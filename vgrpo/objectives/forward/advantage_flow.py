"""AdvantageFlow (arXiv:2605.26013): the denoising loss, weighted by the advantage, and made convex by the old prediction.

`A e(x_0) + gamma e(x_0_hat_old) + lambda e(x_0_hat_ref)`, where e is the mean squared distance of x_0_hat from each. For bad
images the first term has no minimum; the second gives it one as long as A + gamma is above 0. Both together are
`(A + gamma) e(target)` and a constant, with a target between the old prediction and the image, which is how they are computed
here; an error of the x_0 prediction is t times the velocity's. A is divided by the root of the mean square over the iteration
and kept within -1 and 1. Deviation: times and noise are DiffusionNFT's (arXiv:2509.16117), as its lagging weights are.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.types import Batch, Metrics, Points, Probes
from vgrpo.objectives.base import Baselines, compared
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.forward.lagging import LaggingObjective
from vgrpo.objectives.forward.target import flow_target, pull
from vgrpo.support.checks import require


class UnitCredit(Credit):
    """Advantages whose mean square over the iteration is 1."""

    def assign(self, batch: Batch[Points], iteration: int) -> Batch[Points]:
        # Gathered, not summed part by part: a sum's last bits depend on its order.
        valid, advantage = (batch.processes.gather(rows, batch.group) for rows in (batch.valid.float(), batch.advantage))
        square = (valid * advantage.square()).sum() / valid.sum().clamp(min=1)
        return replace(batch, advantage=batch.advantage / square.sqrt().clamp(min=1e-6))


@dataclass(frozen=True, kw_only=True)
class AdvantageFlow(LaggingObjective):
    """Hyper-parameters of AdvantageFlow."""

    kl_weight: float = 1e-3
    """lambda, the weight of the distance from the reference's x_0 prediction."""
    old_weight: float | None = None
    """gamma, the weight of the distance from the old x_0 prediction: 1.1, or 1 - A for None."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.old_weight is None or self.old_weight > 1,
            f"objective.old_weight={self.old_weight}: must be above 1, or the loss of the worst images has no minimum; the "
            "paper's is 1.1; None is 1 - A",
        )

    @property
    def credit(self) -> UnitCredit:
        return UnitCredit()

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        t, v_old, advantage = batch.points.times(), base["old"].float(), batch.advantage.clamp(-1, 1)
        curvature = torch.ones_like(advantage) if self.old_weight is None else advantage + self.old_weight
        target = v_old + flow.expand(advantage / curvature, v_old) * (flow_target(batch.points) - v_old)
        loss = pull(v, target, curvature[:, None] * t.square())
        if self.kl_weight:
            loss = loss + self.kl_weight * pull(v, base["ref"].float(), t.square())
        return loss, compared(v, v_old, batch.points)
