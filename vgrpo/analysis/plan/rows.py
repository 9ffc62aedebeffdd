"""Where an algorithm asks the network, and what it keeps of an image until its update."""

from typing import NamedTuple

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.types import Batch, Cond
from vgrpo.training.settings.config import Config


class Rows(NamedTuple):
    """Per image."""

    points: float
    """Where the network is asked in training."""
    held: float
    """Latents, or what is as large: of the points, whose noise images may share, and answers of other weights."""
    drawn: int
    """The same, while an image is drawn: its noise at the start and at every step."""


def rows_per_image(config: Config, steps: int) -> Rows:
    """Ask the algorithm: one group with latents of a single number, drawn in so many steps by a model that never
    moves."""
    size, objective = config.rollout.group_size, config.objective
    noise, group = torch.zeros(size, 1, 1, 1), torch.zeros(size, dtype=torch.long)
    sampler, trajectory = objective.drawing.step_sampler(0, 0), None
    if sampler is not None:
        step_noise = torch.randn(size, steps, 1, 1, 1)
        _, trajectory = sampler(lambda x, *_: torch.zeros_like(x), noise, flow.schedule(steps), step_noise)
    batch = Batch(
        points=objective.points(noise, group, 0, trajectory=trajectory),
        cond=Cond(sequence=noise[:, 0]),
        advantage=torch.linspace(-1, 1, size),
        group=group,
        valid=torch.ones(size, dtype=torch.bool),
    )
    batch = objective.credit.assign(batch, 0)
    asked = len(batch) * batch.points.times().shape[1] / size
    held = sum(part.numel() for part in vars(batch.points).values() if isinstance(part, Tensor) and part.dim() >= 4) / size
    needed = sum(map(len, config.needed)) / config.update.num_minibatches
    answers = needed + 2 * objective.couples_images  # with their gradient
    final = 0 if sampler is None else 1  # probes hold the final latents themselves
    return Rows(points=asked, held=final + held + answers * asked, drawn=1 + (0 if sampler is None else steps))
