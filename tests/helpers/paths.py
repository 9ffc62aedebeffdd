"""Rollouts of algorithms that keep their steps, from a velocity that is known."""

import torch

from helpers.formulas import SHAPE
from vgrpo.core import flow
from vgrpo.core.types import Batch, Cond

STEPS = 8


def velocity(x, t, rows=slice(None)):
    """Towards the data N(0, 1/4)."""
    variance = (1 - t) ** 2 / 4 + t**2
    return x * (t - (1 - t) / 4) / variance


def rollout(objective, num_images, num_steps=STEPS, seed=0):
    """Latents and path of one group, each image's noise named as the trainer does."""
    rng = torch.Generator().manual_seed(seed)
    starts = torch.randn(num_images, *SHAPE, generator=rng)
    x = starts[[objective.drawing.initial_noise(member) for member in range(num_images)]]
    noise = torch.randn(num_images, num_steps, *SHAPE, generator=rng)
    return objective.drawing.step_sampler(0, 0, "iteration", 0)(velocity, x, flow.schedule(num_steps), noise)


def batch_of(objective, x_0, path, advantage, iteration=0):
    group = torch.zeros(len(x_0), dtype=torch.long)
    cond = Cond(sequence=torch.arange(len(x_0))[:, None, None], pooled=torch.arange(len(x_0))[:, None])
    batch = Batch(
        points=objective.points(x_0, group, 0, trajectory=path),
        cond=cond,
        advantage=advantage,
        group=group,
        valid=torch.ones(len(x_0), dtype=torch.bool),
    )
    return objective.credit.assign(batch, iteration)
