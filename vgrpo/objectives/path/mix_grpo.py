"""MixGRPO (arXiv:2507.21802): stochastic steps and training only inside a window that slides from noise to data.

The window moves by one step every `iterations_per_window` and begins again at the end; the likelihood and the loss are
Flow-GRPO's. `flash` finishes with a few second-order steps after the window (MixGRPO-Flash).
"""

from dataclasses import dataclass

from vgrpo.core.sde import FlowKernel, Kernel, PathSampler
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective, check_noise
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class MixGRPO(PathObjective):
    """Hyper-parameters of MixGRPO."""

    noise: float = 0.7
    ratio_clip: float = 1e-4
    kl_weight: float = 0.0
    """Weight of the penalty for leaving the reference; the paper's is 0."""
    num_window_steps: int = 4
    iterations_per_window: int = 25
    flash: int | None = None
    """DPM-Solver++ 2M steps after the window; None follows the schedule."""

    def __post_init__(self) -> None:
        check_noise(self.noise)
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-4")
        require(self.num_window_steps >= 1, f"objective.num_window_steps={self.num_window_steps}: at least 1")
        require(self.iterations_per_window >= 1, f"objective.iterations_per_window={self.iterations_per_window}: at least 1")
        require_within(self, "objective.", flash=(1, 10_000), kl_weight=(0, 1e6))

    @property
    def kernel_step(self) -> Kernel:
        return FlowKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        return StepDrawing(sampler=self._sampler, images_per_noise=None)

    def _sampler(self, iteration: int, *seed: int | str) -> PathSampler:
        move = iteration // self.iterations_per_window

        def window(num_steps: int) -> range:
            size = min(self.num_window_steps, max(1, num_steps - 1))
            start = move % max(1, num_steps - size)
            return range(start, start + size)

        return PathSampler(kernel=self.kernel_step, window=window, second_order_after=self.flash)
