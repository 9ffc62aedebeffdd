"""TempFlow-GRPO (arXiv:2508.04324): one stochastic step in each trajectory, which alone earns the final reward.

Some images, the branches, start from one noise and follow one deterministic trajectory up to a step that is drawn at random;
there each takes a stochastic step of its own, and goes on deterministically. So their rewards differ by that step alone, and
each is compared with its branches' mean. The loss is Flow-GRPO's, weighted by the step's noise `s sqrt(dt)` over its mean over
all steps: early steps, which decide more, weigh more. Deviations: only a description was at hand, so which step a trajectory
branches at, and that every starting noise has one, is our reading; the last step is never it.

Dimensions: B images, N solver steps, D latent dimensions.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vgrpo.core.sde import FlowKernel, Kernel, RowVelocity
from vgrpo.core.types import Batch, Points, Trajectory
from vgrpo.core.widest import widest
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class WeightedTrajectory(Trajectory):
    weight: Tensor  # [B, 1] the step's noise over the mean of all steps'


@dataclass(frozen=True, kw_only=True)
class BranchSampler:
    """Deterministic but for one step of each trajectory. Rows that branch are neighbours and start alike; what they share is
    computed once."""

    kernel: Kernel
    num_branches: int

    def __call__(self, velocity: RowVelocity, x: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, WeightedTrajectory]:
        num_steps, row = len(times) - 1, torch.arange(len(x), device=x.device)
        times = times.float().to(x.device)
        first = row - row % self.num_branches
        branch_at = _drawn_step(noise[first, -1], num_steps - 1)
        state, end, answer, spread = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x), []
        for step in range(num_steps):
            t, t_next = (times[i].expand(len(x)) for i in (step, step + 1))
            asked, place = torch.where(branch_at < step, row, first).unique(return_inverse=True)
            v = velocity(x[asked], float(times[step]), asked).float()[place]
            following = x + (times[step + 1] - times[step]) * v
            if step < num_steps - 1:
                mean, std = self.kernel(x, v, t, t_next)
                spread.append(std.flatten()[0])
                here = (branch_at == step).reshape(-1, *[1] * (x.dim() - 1))
                following = torch.where(here, mean + std * noise[:, step], following)
                state, end = torch.where(here, x, state), torch.where(here, following, end)
                answer = torch.where(here, v, answer)
            x = following
        weight = torch.stack(spread)
        path = WeightedTrajectory(
            x=state[:, None],
            x_next=end[:, None],
            t=times[branch_at][:, None],
            t_next=times[branch_at + 1][:, None],
            v=answer[:, None],
            weight=(weight / weight.mean())[branch_at][:, None],
        )
        return x, path

    def num_evaluations(self, num_steps: int) -> float:
        """In the mean over the step that is drawn."""
        shared = num_steps / 2  # steps 0 to k inclusive, with k uniform in 0 .. N - 2
        return num_steps - shared + shared / self.num_branches


def _drawn_step(noise: Tensor, count: int) -> Tensor:
    """A number below `count` for every row, uniform, from standard normal noise [B, *D] that nothing else uses. The noise of an
    image has a name, so the number does not depend on which other images are drawn."""
    uniform = torch.special.ndtr(noise.flatten(1)[:, 0].to(widest(noise.device)))
    return (uniform * count).long().clamp(max=count - 1)


class BranchDrawing(StepDrawing):
    """Branches start from one noise and are drawn together."""

    def check(self, *, group_size: int, num_steps: int, batch_size: int | None) -> None:
        count = self.images_per_noise or 1
        for name, size in (("group_size", group_size), ("batch_size", batch_size)):
            require(
                size is None or size % count == 0,
                f"rollout.{name}={size}: must be a multiple of objective.num_branches={count}, images with one start",
            )
        require(num_steps >= 2, f"rollout.num_steps={num_steps}: the last step is deterministic, so take at least 2")


@dataclass(frozen=True, kw_only=True)
class BranchCredit(Credit):
    """How much more than its branches' mean an image earned."""

    num_branches: int

    def assign(self, batch: Batch[Points], iteration: int) -> Batch[Points]:
        worth, valid = (value.view(-1, self.num_branches) for value in (batch.advantage, batch.valid))
        mean = (worth * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)
        return replace(batch, advantage=torch.where(valid, worth - mean, 0.0).flatten())


@dataclass(frozen=True, kw_only=True)
class TempFlowGRPO(PathObjective):
    """Hyper-parameters of TempFlow-GRPO."""

    num_branches: int = 6
    """Images with one starting noise; a group of 24 has four noises."""
    noise: float = 0.7
    """a in s = a sqrt(t / (1 - t))."""
    ratio_clip: float = 1e-4
    kl_weight: float = 0.04
    """Weight of the penalty for leaving the reference; Flow-GRPO's for GenEval."""

    def __post_init__(self) -> None:
        require(self.num_branches >= 2, f"objective.num_branches={self.num_branches}: at least 2 are compared; 6 is usual")
        require(self.noise > 0, f"objective.noise={self.noise}: must be above 0, or no step has a likelihood")
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-4")
        require(self.kl_weight >= 0, f"objective.kl_weight={self.kl_weight}: must not be negative")

    @property
    def kernel_step(self) -> Kernel:
        return FlowKernel(noise=self.noise)

    @property
    def drawing(self) -> BranchDrawing:
        sampler = BranchSampler(kernel=self.kernel_step, num_branches=self.num_branches)
        return BranchDrawing(sampler=lambda iteration, *seed: sampler, images_per_noise=self.num_branches)

    @property
    def credit(self) -> BranchCredit:
        return BranchCredit(num_branches=self.num_branches)

    def step_weight(self, steps: Trajectory) -> Tensor:
        assert isinstance(steps, WeightedTrajectory)
        return steps.weight
