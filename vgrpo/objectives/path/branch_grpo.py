"""BranchGRPO (arXiv:2509.06040): rollouts that share their beginnings, as trees, and advantages per depth.

All images of a tree start from one noise and one trajectory, which splits in two at a few steps; common parts are computed
once. A node is worth the mean of the images below it, compared with the nodes of the same depth in its tree, and every step is
trained once, with the advantage of the node it leads to. Steps and ratios are DanceGRPO's. Pruning saves training: of each
depth only the best and the worst nodes (`keep_width`), and none of a window of depths that moves on with every iteration
(`num_skipped_steps`). Deviation: the last step is deterministic and left out of training.

Dimensions: B images, T trees, S stochastic steps, E edges (steps of distinct trajectories), D latent dimensions.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vgrpo.core.sde import DanceKernel, Kernel, RowVelocity
from vgrpo.core.solvers import euler
from vgrpo.core.types import Batch, Points, Trajectory
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective, check_noise
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class TreeTrajectory(Trajectory):
    leaves: Tensor  # [B, S] how many images, this one and its neighbours, share the step


@dataclass(frozen=True, kw_only=True)
class TreeSampler:
    """Stochastic steps on the distinct trajectories of each tree. Rows of a tree are neighbours and start alike."""

    kernel: Kernel
    splits: tuple[int, ...]

    def __call__(self, velocity: RowVelocity, x: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, TreeTrajectory]:
        num_images, num_steps = len(x), len(times) - 1
        span = 2 ** len(self.splits)  # images below a node; the nodes are every span-th row
        x, states, ends, answers, leaves = x[::span], [], [], [], []
        moments = times.float().to(x.device)
        for step in range(num_steps - 1):
            t, t_next = (moments[i].expand(len(x)) for i in (step, step + 1))
            v = velocity(x, float(times[step]), slice(None, None, span))
            answers.append(v.repeat_interleave(span, 0))
            mean, std = self.kernel(x, v.float(), t, t_next)
            if step in self.splits:
                span //= 2
                x, mean, std = (value.repeat_interleave(2, 0) for value in (x, mean, std))
            states.append(x.repeat_interleave(span, 0))
            x = mean + std * noise[::span, step]
            ends.append(x.repeat_interleave(span, 0))
            leaves.append(span)
        inside = moments[:num_steps].expand(num_images, -1)
        trajectory = TreeTrajectory(
            x=torch.stack(states, 1),
            x_next=torch.stack(ends, 1),
            t=inside[:, :-1],
            t_next=inside[:, 1:],
            v=torch.stack(answers, 1),
            leaves=torch.tensor(leaves, device=x.device).expand(num_images, -1),
        )
        return euler(velocity, x, times[-2:]), trajectory

    def num_evaluations(self, num_steps: int) -> float:
        return sum(2.0 ** sum(split < step for split in self.splits) for step in range(num_steps)) / 2 ** len(self.splits)


@dataclass(frozen=True, kw_only=True)
class TreeDrawing(StepDrawing):
    """The images of a tree are neighbours and start from one noise."""

    splits: tuple[int, ...]
    num_skipped_steps: int

    def check(self, *, group_size: int, num_steps: int, batch_size: int | None) -> None:
        num_leaves = 2 ** len(self.splits)
        trees = f"objective.splits={self.splits} makes trees of {num_leaves} images"
        require(group_size % num_leaves == 0, f"rollout.group_size={group_size}: {trees}, so take a multiple of that")
        require(
            batch_size is None or batch_size % num_leaves == 0,
            f"rollout.batch_size={batch_size}: {trees}, so take a multiple of that, or None",
        )
        require(
            max(self.splits) < num_steps - 1,
            f"objective.splits={self.splits}: the last must come before step {num_steps - 1}, the deterministic end of "
            f"rollout.num_steps={num_steps}",
        )
        require(
            self.num_skipped_steps < num_steps - 1,
            f"objective.num_skipped_steps={self.num_skipped_steps}: leave some of the {num_steps - 1} stochastic steps",
        )


@dataclass(frozen=True, kw_only=True)
class TreeCredit(Credit):
    """Every edge of a tree earns what the node it leads to is worth among the nodes of that depth."""

    num_leaves: int
    keep_width: float
    num_skipped_steps: int

    def assign(self, batch: Batch[Points], iteration: int) -> Batch[Points]:
        """One row per edge that is worth something, [E], instead of one per image."""
        tree = batch.points
        assert isinstance(tree, TreeTrajectory)
        num_steps = tree.t.shape[1]
        skipped = {(iteration + offset) % num_steps for offset in range(self.num_skipped_steps)}
        rows, steps, values = [], [], []
        for step in (step for step in range(num_steps) if step not in skipped):
            span = int(tree.leaves[0, step])
            worth = self._prune(depth_advantage(batch.advantage, batch.valid, span, self.num_leaves)).flatten()
            kept = worth.nonzero()[:, 0]
            rows.append(kept * span)
            steps.append(torch.full_like(kept, step))
            values.append(worth[kept])
        order = batch.group[torch.cat(rows)].argsort(stable=True)  # minibatches hold whole groups in order
        row, step_of, value = (torch.cat(part)[order] for part in (rows, steps, values))
        nothing = int(batch.processes.total(torch.tensor(len(row)))) == 0
        if nothing and batch.processes.rank == 0:  # no node differs from its neighbours: nothing to learn
            row, step_of, value = (batch.group.new_zeros(1), batch.group.new_zeros(1), batch.advantage.new_zeros(1))
        return replace(
            batch,
            points=tree[row[:, None], step_of[:, None]],
            cond=batch.cond[row],
            advantage=value,
            group=batch.group[row],
            valid=torch.ones_like(value, dtype=torch.bool),
        )

    def _prune(self, worth: Tensor) -> Tensor:
        """Advantages of the nodes of a depth [T, N], 0 where pruning leaves them out: all but the best and the worst."""
        half = max(1, round(self.keep_width * worth.shape[1] / 2))
        if self.keep_width == 1 or 2 * half >= worth.shape[1]:
            return worth
        order = worth.argsort(dim=1, stable=True)
        return worth.scatter(1, order[:, half:-half], 0.0)


@dataclass(frozen=True, kw_only=True)
class BranchGRPO(PathObjective):
    """Hyper-parameters of BranchGRPO."""

    splits: tuple[int, ...] = (0, 3, 6)
    """Steps at which every trajectory splits in two; n of them make trees of 2^n images. The paper's are 0, 3, 6, 9 of 20."""
    noise: float = 0.3
    ratio_clip: float = 1e-3
    keep_width: float = 1.0
    """Share of each depth's nodes that are trained on, the best and the worst."""
    num_skipped_steps: int = 0
    """Steps left out of training; the window moves by one every iteration."""

    def __post_init__(self) -> None:
        require(len(self.splits) > 0, "objective.splits is empty: a tree needs at least one step that splits")
        require(min(self.splits) >= 0, f"objective.splits={self.splits}: steps are counted from 0")
        require(len(set(self.splits)) == len(self.splits), f"objective.splits={self.splits}: name each step once")
        check_noise(self.noise)
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-3")
        require(0 < self.keep_width <= 1, f"objective.keep_width={self.keep_width}: must lie in (0, 1]; 1 keeps all")
        require(self.num_skipped_steps >= 0, f"objective.num_skipped_steps={self.num_skipped_steps}: must not be negative")

    @property
    def num_leaves(self) -> int:
        return int(2 ** len(self.splits))

    @property
    def kernel_step(self) -> Kernel:
        return DanceKernel(noise=self.noise)

    @property
    def drawing(self) -> TreeDrawing:
        sampler = TreeSampler(kernel=self.kernel_step, splits=self.splits)
        return TreeDrawing(
            sampler=lambda iteration, *seed: sampler,
            images_per_noise=self.num_leaves,
            splits=self.splits,
            num_skipped_steps=self.num_skipped_steps,
        )

    @property
    def credit(self) -> TreeCredit:
        return TreeCredit(num_leaves=self.num_leaves, keep_width=self.keep_width, num_skipped_steps=self.num_skipped_steps)


def depth_advantage(advantage: Tensor, valid: Tensor, span: int, num_leaves: int) -> Tensor:
    """How much better than its tree's other nodes of a depth each node is, in deviations, [T, num_leaves / span].

    A node is worth the mean advantage of the `span` images below it, those without a reward left out; 0 where all are alike.
    """
    known = valid.to(advantage.dtype)
    total, count = ((value.view(-1, num_leaves // span, span).sum(2)) for value in (advantage * known, known))
    has_any = count > 0
    worth = total / count.clamp(min=1)
    number = has_any.sum(1, keepdim=True).clamp(min=1)
    mean = (worth * has_any).sum(1, keepdim=True) / number
    std = (((worth - mean) * has_any).square().sum(1, keepdim=True) / number).sqrt()
    return torch.where(has_any & (std > 1e-6), (worth - mean) / std.clamp(min=1e-6), 0.0)
