"""TP-GRPO (arXiv:2602.06422): each stochastic step earns its own gain, and a turning point what it set off.

R_t is the reward after t stochastic steps and a deterministic end; R_0 is that of the deterministic trajectory, R_T the final
image's. A step earns `d_t = R_t - R_(t-1)`. A step turns the trajectory when the one before went against the whole change
R_T - R_0, and it goes with it, and what follows still does: R_T - R_t has the sign of d_t. For the first step the last of these
is enough. A turning point earns `eta (R_T - R_(t-1))` instead. An iteration has as many of them with a positive earning as
with a negative. The rest is Flow-GRPO's, with coefficients-preserving steps. Deviations: eta is not in what we read and is 1 by
default; of the more frequent sign those stay that earn most. Every step costs a deterministic end and a reward.

Dimensions: B images, S stochastic steps (T in the paper), R rewards.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.sde import CpsKernel, Kernel, PathSampler, all_but_last
from vgrpo.core.solvers import Velocity, euler
from vgrpo.core.types import Trajectory
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import JudgedTrajectory, PathObjective
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class FinishingSampler:
    """A stochastic sampler that also ends deterministically from the start of each of its steps."""

    steps: PathSampler

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, JudgedTrajectory]:
        answers = []

        def watched(x: Tensor, t: float) -> Tensor:
            answers.append(velocity(x, t))
            return answers[-1]

        x_0, kept = self.steps(watched, x, times, noise)
        ends = []
        for step in range(kept.t.shape[1]):
            # The first of an end's steps starts where the network has been asked.
            x = kept.x[:, step] + (times[step + 1] - times[step]).item() * answers[step].float()
            ends.append(euler(velocity, x, times[step + 1 :]))
        return x_0, JudgedTrajectory(**kept.steps(), judged=torch.stack(ends, 1))

    def num_evaluations(self, num_steps: int) -> int:
        return self.steps.num_evaluations(num_steps) + sum(num_steps - 1 - step for step in self.steps.window(num_steps))


@dataclass(frozen=True, kw_only=True)
class TurningCredit(Credit):
    """Every step earns its gain, or what it set off."""

    bonus: float

    def judged(self, trajectory: Trajectory | None) -> Tensor:
        assert isinstance(trajectory, JudgedTrajectory)
        return trajectory.judged

    def gains(self, rewards: Tensor, judged: Tensor | None, group: Tensor, processes: Processes = ALONE) -> Tensor:
        """[B, S, R]"""
        assert judged is not None
        whole = torch.cat([judged, rewards[:, None]], 1)  # R_0 to R_T
        gain, final = whole.diff(dim=1), rewards[:, None]
        earned = self.bonus * (final - judged)
        turning = turning_points(whole)
        chosen = _balanced(processes.gather(turning, group), processes.gather(earned, group))
        return torch.where(processes.own(chosen, group), earned, gain)


def turning_points(whole: Tensor) -> Tensor:
    """Which steps turn a trajectory, [B, S, R] bool, from R_0 to R_T [B, S + 1, R]."""
    gain, final = whole.diff(dim=1).sign(), whole[:, -1:]
    direction = (final - whole[:, :1]).sign()
    goes_on = gain * (final - whole[:, 1:]).sign() > 0
    against = gain[:, :-1] * direction < 0
    turned = against & (gain[:, 1:] * direction > 0)
    return goes_on & torch.cat([torch.ones_like(goes_on[:, :1]), turned], 1)


def _balanced(turning: Tensor, earned: Tensor) -> Tensor:
    """Of the turning points of each reward, as many with a positive earning as with a negative: those of the largest."""
    kept = []
    for points, value in zip(turning.unbind(2), earned.unbind(2), strict=True):
        signs = [points & (value > 0), points & (value < 0)]
        count = min(int(sign.sum()) for sign in signs)
        chosen = torch.zeros_like(points).flatten()
        for sign in signs:
            size = torch.where(sign, value.abs(), -torch.inf).flatten()
            chosen[size.argsort(descending=True, stable=True)[:count]] = True
        kept.append(chosen.view_as(points))
    return torch.stack(kept, 2)


@dataclass(frozen=True, kw_only=True)
class TPGRPO(PathObjective):
    """Hyper-parameters of TP-GRPO; the defaults are its settings for Stable Diffusion 3.5."""

    noise: float = 0.7
    """Share of the noise that is fresh in each step."""
    bonus: float = 1.0
    """eta, what a turning point earns of the change it set off; 0 credits it with nothing."""
    ratio_clip: float = 1e-5
    kl_weight: float = 1e-4
    """Weight of the penalty for leaving the reference."""

    def __post_init__(self) -> None:
        require(0 < self.noise < 1, f"objective.noise={self.noise}: must lie in (0, 1)")
        require_within(self, "objective.", bonus=(0, 1e6))
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-5")
        require(self.kl_weight >= 0, f"objective.kl_weight={self.kl_weight}: must not be negative")

    @property
    def kernel_step(self) -> Kernel:
        return CpsKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        sampler = FinishingSampler(steps=PathSampler(kernel=self.kernel_step, window=all_but_last))
        return StepDrawing(sampler=lambda iteration, *seed: sampler)

    @property
    def credit(self) -> TurningCredit:
        return TurningCredit(bonus=self.bonus)
