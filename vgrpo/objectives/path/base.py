"""What the algorithms with a likelihood per stochastic step of the sampler have in common: one PPO ratio per step."""

from abc import abstractmethod

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.sde import Kernel
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


class PathObjective(Objective[Trajectory]):
    """The loss `max(-A ratio, -A clip(ratio))` per step, averaged over an image's steps, plus a distance to the reference."""

    ratio_clip: float
    kl_weight: float = 0.0
    guard: bool = False

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

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Trajectory]) -> tuple[Tensor, Metrics]:
        steps, kernel = batch.points, self.kernel_step
        mean, std = kernel(steps.x, v.float(), steps.t, steps.t_next)
        mean_old, _ = kernel(steps.x, base["old"].float(), steps.t, steps.t_next)
        log_p, log_p_old = (kernel.log_prob(steps.x_next, m, std) for m in (mean, mean_old))
        log_ratio, scale = log_p - log_p_old, torch.ones_like(log_p)
        if self.guard:
            drift = (mean - mean_old).square().flatten(2).mean(2)
            deviation = std.flatten(2).mean(2)
            log_ratio = (log_ratio + drift / (2 * deviation**2)) * deviation
            scale = 1 / (steps.t - steps.t_next)
        ratio = torch.exp(log_ratio)  # [B, S]
        advantage = batch.advantage.reshape(len(batch), -1)  # one for all steps, or one each
        limited = -advantage * ratio.clamp(1 - self.ratio_clip, 1 + self.ratio_clip)
        loss = torch.maximum(-advantage * ratio, limited)
        metrics = {
            "ratio": ratio.mean(1).detach(),
            "clip_share": (limited > -advantage * ratio).float().mean(1),
            "surrogate": log_p_old.mean(1),
            "kl": (mean - mean_old).square().flatten(1).mean(1).detach(),
        }
        loss = (loss * scale).mean(1)
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
