"""What RAM, FlowAWR, AdvantageFlow and RVM have in common: the velocity is pulled towards a target that holds still.

With the flow-matching target u = eps - x_0 of a point, each of them is `w mean((v - target)^2)`, and the target is
`anchor + c (u - start)`, without gradient. They differ in the anchor, the start, c and the points. A positive c pulls towards
the image, a negative one away from it; since the target stands still the loss is convex in v either way.
"""

from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.types import Probes


def pull(v: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """`w mean((v - target)^2)` from velocities and targets [B, K, *D], averaged over the points of an image, [B]. `weight` is
    [B, K], or one number for all."""
    error = (v.float() - target.detach()).square().flatten(2).mean(2)
    return (weight * error).mean(1)


def flow_target(probes: Probes) -> Tensor:
    """u = eps - x_0 of every point, [B, K, *D]."""
    return flow.velocity_target(probes.x_0[:, None], probes.noise())
