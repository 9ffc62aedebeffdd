"""DanceGRPO (arXiv:2505.07818): a constant diffusion, one starting noise per group, a random share of each image's steps.

Deviations: the last step is deterministic, so that the image is x_0_hat as in the original, and is left out of training; no
best-of-n selection of images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.probes import share_keys
from vgrpo.core.sde import DanceKernel, Kernel, PathSampler, all_but_last
from vgrpo.core.seeds import generator
from vgrpo.core.types import Trajectory
from vgrpo.objectives.drawing import StepDrawing
from vgrpo.objectives.path.base import PathObjective, check_noise, kept_steps
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class DanceGRPO(PathObjective):
    """Hyper-parameters of DanceGRPO."""

    noise: float = 0.3
    ratio_clip: float = 1e-4
    step_share: float = 0.6
    """Share of an image's stochastic steps that are trained on."""

    def __post_init__(self) -> None:
        check_noise(self.noise)
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 1e-4")
        require(0 < self.step_share <= 1, f"objective.step_share={self.step_share}: must lie in (0, 1]; the paper's is 0.6")

    @property
    def kernel_step(self) -> Kernel:
        return DanceKernel(noise=self.noise)

    @property
    def drawing(self) -> StepDrawing:
        sampler = PathSampler(kernel=self.kernel_step, window=all_but_last)
        return StepDrawing(sampler=lambda iteration, *seed: sampler, images_per_noise=None)

    def points(self, x_0: Tensor, group: Tensor, *seed: int | str, trajectory: Trajectory | None = None) -> Trajectory:
        whole, images = kept_steps(trajectory), share_keys(group, "none")
        count = max(1, round(self.step_share * whole.t.shape[1]))
        num_steps = whole.t.shape[1]
        order = torch.stack([torch.randperm(num_steps, generator=generator(*seed, "steps of", key)) for key in images])
        steps = order[:, :count].sort(1).values.to(whole.t.device)
        return whole[torch.arange(len(steps), device=steps.device)[:, None], steps]
