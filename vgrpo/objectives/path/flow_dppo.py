"""Flow-DPPO (arXiv:2606.11025): no clip of the ratio; a step is left out when it has gone too far and goes on.

The divergence of a step is exact, both policies being Gaussian: `kl = mean((mu - mu_old)^2) / (2 std^2)`. A step with
`kl >= tau` is left out where its gradient would take it further: ratio above 1 and A above 0, or both below. All others count
with `-A ratio`. Deviations: the deviation of the first step, where the diffusion has a pole, is the sampler's own and not that
of t = 0.99; the last step is deterministic and never in the window; no coefficients-preserving steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.sde import FlowKernel, Kernel
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective, Weighed, random_window
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class FlowDPPO(PathObjective):
    """Hyper-parameters of Flow-DPPO; the defaults are its settings for Stable Diffusion 3.5."""

    noise: float = 0.7
    """a in s = a sqrt(t / (1 - t))."""
    kl_limit: float = 1e-5
    """tau, the divergence per dimension from which on a step may not go further."""
    num_window_steps: int = 3
    """Stochastic steps."""
    window_range: tuple[int, int] = (0, 5)
    """The window lies between these steps, the second excluded; where, is drawn every iteration."""

    def __post_init__(self) -> None:
        require(self.noise > 0, f"objective.noise={self.noise}: must be above 0, or no step has a likelihood")
        require(self.kl_limit > 0, f"objective.kl_limit={self.kl_limit}: must be above 0, about 1e-5")
        require(self.num_window_steps >= 1, f"objective.num_window_steps={self.num_window_steps}: at least 1 stochastic step")
        first, last = self.window_range
        require(0 <= first < last, f"objective.window_range={self.window_range}: two steps from 0 on, the second later")

    @property
    def kernel_step(self) -> Kernel:
        return FlowKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        return StepDrawing(sampler=random_window(self.kernel_step, self.num_window_steps, self.window_range))

    def weigh(self, ratio: Tensor, advantage: Tensor, kl: Tensor) -> Weighed:
        away = (ratio > 1) & (advantage > 0) | (ratio < 1) & (advantage < 0)
        left_out = away & (kl >= self.kl_limit)
        return Weighed(torch.where(left_out, 0.0, -advantage * ratio), left_out)
