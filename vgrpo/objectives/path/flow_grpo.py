"""Flow-GRPO (arXiv:2505.05470): every step of a stochastic sampler is an action with a Gaussian likelihood.

One PPO ratio per step, `exp(log p - log p_old)`, and a penalty `beta mean((mu - mu_ref)^2) / (2 s^2)`. Variants by switch: a
short random window of stochastic steps (Flow-GRPO-Fast), coefficients-preserving sampling (`kernel="cps"`,
arXiv:2509.05952), and GRPO-Guard (arXiv:2510.22319), which recentres and rescales the log-ratio of every step. Deviations:
the last step is deterministic instead of stochastic and left out; an image without advantage counts in the mean.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vgrpo.core.sde import CpsKernel, FlowKernel, Kernel, PathSampler, all_but_last
from vgrpo.core.types import Trajectory
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective, check_noise, random_window
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class FlowGRPO(PathObjective):
    """Hyper-parameters of Flow-GRPO; the defaults are its settings for Stable Diffusion 3.5."""

    kernel: Literal["flow", "cps"] = "flow"
    noise: float = 0.7
    """a in s = a sqrt(t / (1 - t)); for cps the share of noise that is fresh, 0.8 in its paper."""
    ratio_clip: float = 1e-4
    kl_weight: float = 0.04
    """Weight of the penalty for leaving the reference: 0.04 for GenEval and OCR, 0.01 for PickScore."""
    num_window_steps: int | None = None
    """Stochastic steps (Flow-GRPO-Fast: 3); None makes all but the last stochastic."""
    window_range: tuple[int, int] = (0, 5)
    """The window lies between these steps, the second excluded; where, is drawn every iteration."""
    guard: bool = False
    """GRPO-Guard's normalised log-ratios; its clip is 2e-6 to 4e-6."""

    def __post_init__(self) -> None:
        check_noise(self.noise)
        require(self.kernel != "cps" or self.noise < 1, f"objective.noise={self.noise}: must be below 1 with kernel cps")
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-4")
        require_within(self, "objective.", kl_weight=(0, 1e6))
        start, end = self.window_range
        require(
            0 <= start < end, f"objective.window_range={self.window_range}: the first step, from 0, then one behind the last"
        )
        steps = self.num_window_steps
        require(steps is None or steps >= 1, f"objective.num_window_steps={steps}: at least 1 stochastic step")
        require(
            not (self.guard and self.kernel == "cps"),
            "objective.guard=True: it recentres a Gaussian's log-ratio, which kernel cps does not have; take kernel flow",
        )

    @property
    def kernel_step(self) -> Kernel:
        return FlowKernel(noise=self.noise) if self.kernel == "flow" else CpsKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        if self.num_window_steps is not None:
            return StepDrawing(sampler=random_window(self.kernel_step, self.num_window_steps, self.window_range))
        sampler = PathSampler(kernel=self.kernel_step, window=all_but_last)
        return StepDrawing(sampler=lambda iteration, *seed: sampler)

    def step_weight(self, steps: Trajectory) -> Tensor | None:
        return 1 / (steps.t - steps.t_next) if self.guard else None
