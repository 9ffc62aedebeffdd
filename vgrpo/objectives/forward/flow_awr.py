"""FlowAWR (arXiv:2606.30376): advantage-weighted regression of the velocity, by as much as an image beats its group.

The advantage `A = exp(r / g) / mean_group exp(r / g) - 1`, with the deviation g of the iteration's rewards, lies in
(-1, G - 1]; the target is `v_old + A (u - v_old)`. A squared distance holds the model near the reference, and lagging weights
draw the rollouts. Deviations: times, noise and the weight of the distance are DiffusionNFT's (arXiv:2509.16117), whose public
settings it starts from; no gate on A for rewards by rules.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, compared
from vgrpo.objectives.forward.lagging import LaggingObjective
from vgrpo.objectives.forward.regression import exponential_weight
from vgrpo.objectives.forward.target import flow_target, pull


@dataclass(frozen=True, kw_only=True)
class FlowAWR(LaggingObjective):
    """Hyper-parameters of FlowAWR."""

    couples_images: ClassVar[bool] = True

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        # The batch's advantages are rewards minus their group's mean, over g: the mean cancels in the quotient.
        v_old, strength = base["old"].float(), exponential_weight(batch) - 1
        target = v_old + flow.expand(strength, v_old) * (flow_target(batch.points) - v_old)
        return self.held(pull(v, target), v, base), compared(v, v_old, batch.points)
