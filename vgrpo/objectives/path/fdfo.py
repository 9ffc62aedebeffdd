"""Finite Difference Flow Optimization (arXiv:2603.12893): pairs of almost equal trajectories, and what made the better one.

Two images of a group start from the same noise, and every step of each is perturbed a little. Half the difference of their
final latents, dx, is a direction in which the reward rose by half the difference of their rewards, dR; every step's velocity
is moved that way: `l = -mean((v - (v_old - dx))^2) + mean(dx^2)`, `ratio = exp(l)`, and Simple Policy Optimization's loss
`-dR ratio + |dR| / (2 clip) (ratio - 1)^2`. Deviation: dR is the half difference of advantages, so that several rewards can be
combined; it rescales the loss.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.solvers import Velocity
from vgrpo.core.types import Batch, Metrics, Points, Trajectory
from vgrpo.objectives.base import Baselines, Objective
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import kept_steps
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class PairTrajectory(Trajectory):
    dx: Tensor  # [B, *D] half the difference of an image's final latents from its partner's, divided by its mean square


@dataclass(frozen=True, kw_only=True)
class ChurnSampler:
    """Euler steps, each followed by a little fresh noise (EDM's churn, arXiv:2206.00364, on the flow's states)."""

    churn: float

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, Trajectory]:
        t = times.tolist()
        x = self._add_noise(x, t[0], noise[:, 0])
        states, answers = [x], []
        for step in range(len(t) - 1):
            target = t[step + 1]
            answers.append(velocity(x, t[step]))
            x = x + (self._overshoot(target) - t[step]) * answers[-1].float()
            x = self._add_noise(x, target, noise[:, step + 1]) if target > 0 else x
            states.append(x)
        rows = times.float().to(x.device).expand(len(x), -1)
        whole, v = torch.stack(states, 1), torch.stack(answers, 1)
        return x, Trajectory(x=whole[:, :-1], x_next=whole[:, 1:], t=rows[:, :-1], t_next=rows[:, 1:], v=v)

    def _overshoot(self, t: float) -> float:
        """The time below t from which adding noise leads back to t."""
        return t / (1 + self.churn - self.churn * t)

    def _add_noise(self, x: Tensor, t: float, noise: Tensor) -> Tensor:
        """From the state at `_overshoot(t)` to one at t."""
        start, growth = self._overshoot(t), 1 + self.churn
        return (x + start * (growth**2 - 1) ** 0.5 * noise) / (self.churn * start + 1)

    def num_evaluations(self, num_steps: int) -> int:
        return num_steps


class PairDrawing(StepDrawing):
    """Two neighbours start from the same noise."""

    def check(self, *, group_size: int, num_steps: int, batch_size: int | None) -> None:
        require(group_size % 2 == 0, f"rollout.group_size={group_size}: fdfo draws pairs; take an even number")


class PairCredit(Credit):
    """Half the difference of a pair's advantages. A pair of which one reward failed has none."""

    def assign(self, batch: Batch[Points], iteration: int) -> Batch[Points]:
        valid = batch.valid.unflatten(0, (-1, 2)).all(1).repeat_interleave(2)
        change = _half_difference(batch.advantage)
        return replace(batch, advantage=torch.where(valid, change, 0.0), valid=valid)


@dataclass(frozen=True, kw_only=True)
class FDFO(Objective[PairTrajectory]):
    """Hyper-parameters of Finite Difference Flow Optimization."""

    churn: float = 0.0025
    """Growth of the noise level per step; how different the images of a pair are."""
    ratio_clip: float = 0.03
    """epsilon of Simple Policy Optimization."""

    def __post_init__(self) -> None:
        require(self.churn > 0, f"objective.churn={self.churn}: must be above 0, or the images of a pair are the same")
        require_within(self, "objective.", churn=(1e-6, 1))
        require(self.ratio_clip > 0, f"objective.ratio_clip={self.ratio_clip}: must be above 0, about 0.03")

    @property
    def drawing(self) -> PairDrawing:
        sampler = ChurnSampler(churn=self.churn)
        return PairDrawing(sampler=lambda iteration, *seed: sampler, images_per_noise=2)

    @property
    def credit(self) -> PairCredit:
        return PairCredit()

    def points(self, x_0: Tensor, group: Tensor, *seed: int | str, trajectory: Trajectory | None = None) -> PairTrajectory:
        """Every step of the rollout, with the direction of each pair. Pairs are neighbouring rows."""
        steps = kept_steps(trajectory)
        dx = _half_difference(x_0.float())
        dx = dx / (flow.expand(dx.square().flatten(1).mean(1), dx) + 1e-6)
        return PairTrajectory(**steps.steps(), dx=dx)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[PairTrajectory]) -> tuple[Tensor, Metrics]:
        dx, change = batch.points.dx[:, None], batch.advantage[:, None]
        move = v.float() - base["old"].float()
        log_ratio = -(move * (move + 2 * dx)).flatten(2).mean(2)  # [B, S]; l without the mean(dx^2) that cancels
        ratio = log_ratio.exp()
        loss = -change * ratio + change.abs() / (2 * self.ratio_clip) * (ratio - 1).square()
        metrics = {
            "ratio": ratio.mean(1).detach(),
            "surrogate": log_ratio.mean(1).detach(),
            "kl": move.square().flatten(1).mean(1).detach(),
        }
        return loss.mean(1), metrics


def _half_difference(values: Tensor) -> Tensor:
    """Half of each row's difference from its partner's, the next row or the one before."""
    pairs = values.unflatten(0, (-1, 2))
    return ((pairs - pairs.flip(1)) / 2).flatten(0, 1)
