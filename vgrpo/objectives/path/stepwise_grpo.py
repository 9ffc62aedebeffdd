"""Stepwise-Flow-GRPO (arXiv:2603.28718): every step is credited with its own gain.

The gain of a step is the reward of the image that the model expects after it (Tweedie's estimate x_0_hat) minus that of the
image expected before it; gains are compared within the group, step by step. The sampler is a stochastic DDIM-like one
(coefficients-preserving), which keeps those images clean; likelihoods and ratios are Flow-GRPO's. Every gain costs a decoding
and a reward; with `steps_per_gain` above 1 neighbouring steps share one.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vgrpo.core.flow import predict_x_0
from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.sde import CpsKernel, Kernel, PathSampler, all_but_last
from vgrpo.core.solvers import Velocity
from vgrpo.core.types import Batch, Points, Trajectory
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import JudgedTrajectory, PathObjective, check_noise
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class ExpectingSampler:
    """A stochastic sampler that also keeps what the model expects of the final image."""

    steps: PathSampler

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, JudgedTrajectory]:
        expected = []
        moments = dict(zip(times.tolist(), times.to(x), strict=True))  # on the device before the first step

        def watched(x: Tensor, t: float) -> Tensor:
            v = velocity(x, t)
            expected.append(predict_x_0(x, v.float(), moments[t]))
            return v

        x_0, kept = self.steps(watched, x, times, noise)
        means = torch.stack(expected[: kept.t.shape[1]], 1)
        return x_0, JudgedTrajectory(**kept.steps(), judged=means)

    def num_evaluations(self, num_steps: int) -> int:
        return self.steps.num_evaluations(num_steps)


@dataclass(frozen=True, kw_only=True)
class StepCredit(Credit):
    """Every step, or `steps_per_gain` neighbours together, earns the gain between two expected images."""

    steps_per_gain: int

    def judged(self, trajectory: Trajectory | None) -> Tensor:
        assert isinstance(trajectory, JudgedTrajectory)
        return trajectory.judged[:, :: self.steps_per_gain]

    def gains(self, rewards: Tensor, judged: Tensor | None, group: Tensor, processes: Processes = ALONE) -> Tensor:
        """[B, ceil(S / steps_per_gain), R]; they add up to the final reward minus that of the first expectation."""
        assert judged is not None
        # The last step is deterministic and ends at the image expected before it, whose reward is the final one.
        return torch.cat([judged, rewards[:, None]], 1).diff(dim=1)

    def assign(self, batch: Batch[Points], iteration: int) -> Batch[Points]:
        gains = batch.advantage.reshape(len(batch), -1)
        num_steps = batch.points.times().shape[1]
        return replace(batch, advantage=gains.repeat_interleave(self.steps_per_gain, 1)[:, :num_steps])


@dataclass(frozen=True, kw_only=True)
class StepwiseGRPO(PathObjective):
    """Hyper-parameters of Stepwise-Flow-GRPO."""

    noise: float = 0.8
    """Share of the noise that is fresh in each step."""
    ratio_clip: float = 1e-4
    kl_weight: float = 0.0
    steps_per_gain: int = 1
    """Steps that share one gain, to save rewards."""

    def __post_init__(self) -> None:
        check_noise(self.noise, most=0.999)
        require_within(self, "objective.", kl_weight=(0, 1e6))
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-4")
        require(self.steps_per_gain >= 1, f"objective.steps_per_gain={self.steps_per_gain}: at least 1")

    @property
    def kernel_step(self) -> Kernel:
        return CpsKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        sampler = ExpectingSampler(steps=PathSampler(kernel=self.kernel_step, window=all_but_last))
        return StepDrawing(sampler=lambda iteration, *seed: sampler)

    @property
    def credit(self) -> StepCredit:
        return StepCredit(steps_per_gain=self.steps_per_gain)
