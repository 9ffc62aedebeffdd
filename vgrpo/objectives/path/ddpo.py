"""DDPO (arXiv:2305.13301): policy gradients on the steps of DDIM with eta = 1, the ancestral sampler.

`mode="is"` is importance sampling with PPO's clip, several optimiser steps per rollout; `mode="sf"` the score function,
`-A log p`, one step. Works on any model here: DDIM's step is taken in the variance-preserving process with the flow's
signal-to-noise ratio. Deviations: the last step, whose deviation is 0, is left out of training; advantages are normalised in
the iteration's groups and not by each prompt's running mean and deviation, which groups of one prompt make unnecessary.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core.sde import DdimKernel, Kernel, PathSampler, all_but_last
from vgrpo.core.types import Batch, Metrics, Trajectory
from vgrpo.objectives.base import Baselines
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective, check_noise
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class DDPO(PathObjective):
    """Hyper-parameters of DDPO."""

    mode: Literal["is", "sf"] = "is"
    noise: float = 1.0
    """DDIM's eta."""
    ratio_clip: float = 1e-4

    def __post_init__(self) -> None:
        check_noise(self.noise, most=1.0)
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-4")

    @property
    def kernel_step(self) -> Kernel:
        return DdimKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        # The first state is pure noise, where eta = 1 forgets it entirely: still a step like any other.
        sampler = PathSampler(kernel=self.kernel_step, window=all_but_last)
        return StepDrawing(sampler=lambda iteration, *seed: sampler)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Trajectory]) -> tuple[Tensor, Metrics]:
        loss, metrics = super().loss(v, base, batch)
        if self.mode == "is":
            return loss, metrics
        steps, kernel = batch.points, self.kernel_step
        mean, std = kernel(steps.x, v.float(), steps.t, steps.t_next)
        log_p = kernel.log_prob(steps.x_next, mean, std)
        return -(batch.advantage.reshape(len(batch), -1) * log_p).mean(1), {**metrics, "clip_share": torch.zeros_like(loss)}
