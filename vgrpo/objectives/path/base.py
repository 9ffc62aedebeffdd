"""What the algorithms with a likelihood per stochastic step of the sampler have in common: one PPO ratio per step."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.sde import Kernel, PathSampler
from vgrpo.core.seeds import generator
from vgrpo.core.types import Batch, Metrics, Trajectory
from vgrpo.objectives.base import Baselines, Objective, WeightSet
from vgrpo.objectives.drawing import Drawing
from vgrpo.support.checks import require


def check_noise(noise: float, most: float = 10.0) -> None:
    """Raise ValueError for a share of fresh noise that no stochastic step can have."""
    require(
        0.001 <= noise <= most,
        f"objective.noise={noise}: must lie in 0.001 to {most:g}; without noise no step has a likelihood",
    )


class Weighed(NamedTuple):
    loss: Tensor  # [B, S] of every step
    limited: Tensor  # [B, S] bool, where the algorithm's limit acts


class PathObjective(Objective[Trajectory]):
    """The loss `max(-A ratio, -A clip(ratio))` per step, averaged over an image's steps, plus a distance to the reference."""

    ratio_clip: float
    kl_weight: float = 0.0
    guard: bool = False
    """Whether log-ratios are recentred by the divergence and rescaled (GRPO-Guard)."""

    @property
    @abstractmethod
    def kernel_step(self) -> Kernel:
        """The stochastic step."""

    @property
    @abstractmethod
    def drawing(self) -> Drawing:
        """Which steps of a rollout are stochastic."""

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def points(self, x_0: Tensor, group: Tensor, *seed: int | str, trajectory: Trajectory | None = None) -> Trajectory:
        return kept_steps(trajectory)

    def weigh(self, ratio: Tensor, advantage: Tensor, kl: Tensor) -> Weighed:
        """The loss of every step from its ratio [B, S], advantages [B, S] or [B, 1], and the divergence per dimension of its
        Gaussian from the old one [B, S]."""
        plain = -advantage * ratio
        clipped = -advantage * ratio.clamp(1 - self.ratio_clip, 1 + self.ratio_clip)
        return Weighed(torch.maximum(plain, clipped), clipped > plain)

    def step_weight(self, steps: Trajectory) -> Tensor | None:
        """Weights [B, S] of the steps' losses; None weighs them equally."""
        return None

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Trajectory]) -> tuple[Tensor, Metrics]:
        steps, kernel = batch.points, self.kernel_step
        mean, std = kernel(steps.x, v.float(), steps.t, steps.t_next)
        mean_old, _ = kernel(steps.x, base["old"].float(), steps.t, steps.t_next)
        log_p, log_p_old = (kernel.log_prob(steps.x_next, m, std) for m in (mean, mean_old))
        deviation = std.flatten(2).mean(2)
        kl = (mean - mean_old).square().flatten(2).mean(2) / (2 * deviation**2)
        log_ratio = log_p - log_p_old
        if self.guard:
            log_ratio = (log_ratio + kl) * deviation
        ratio = torch.exp(log_ratio)  # [B, S]
        advantage = batch.advantage if batch.advantage.dim() == 2 else batch.advantage[:, None]  # [B, S or 1]
        loss, limited = self.weigh(ratio, advantage, kl.detach())
        weight = self.step_weight(steps)
        metrics = {
            "ratio": ratio.mean(1).detach(),
            "clip_share": limited.float().mean(1),
            "surrogate": log_p_old.mean(1),
            "kl": (mean - mean_old).square().flatten(1).mean(1).detach(),
        }
        loss = (loss if weight is None else loss * weight).mean(1)
        if self.kl_weight:
            mean_ref, _ = kernel(steps.x, base["ref"].float(), steps.t, steps.t_next)
            # Over the squared diffusion s^2, so the deviation's square is divided by the step's length.
            diffusion = std.square() / flow.expand(steps.t - steps.t_next, std)
            distance = ((mean - mean_ref).square() / (2 * diffusion)).flatten(1).mean(1)
            loss = loss + self.kl_weight * distance
        return loss, metrics


def kept_steps(trajectory: Trajectory | None) -> Trajectory:
    """The steps of a rollout. Raises ValueError if none were kept."""
    if trajectory is None:
        raise ValueError("this algorithm trains on the steps of its own rollouts, and this rollout kept none")
    return trajectory


@dataclass(frozen=True, kw_only=True)
class JudgedTrajectory(Trajectory):
    judged: Tensor  # [B, J, *D] latents whose pictures are judged beside the final image


def random_window(kernel: Kernel, size: int, between: tuple[int, int]) -> Callable[..., PathSampler]:
    """The sampler of an iteration, from its number and a seed: `size` stochastic steps between two of the schedule, the second
    excluded; where they begin is drawn."""
    low, high = between

    def sampler(iteration: int, *seed: int | str) -> PathSampler:
        start = int(torch.randint(low, max(low, high - size) + 1, (1,), generator=generator(*seed, "window")))

        def window(num_steps: int) -> range:
            begin = max(0, min(start, num_steps - 1 - size))
            return range(begin, min(begin + size, num_steps))

        return PathSampler(kernel=kernel, window=window)

    return sampler
