"""A curriculum of two short stages, and how adapters are compared."""

import dataclasses

import torch

from helpers.tiny import PROMPTS, tiny_config
from vgrpo import VGRPO, Curriculum, Stage
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.loading import make_policy
from vgrpo.models.weight_sets import trainable
from vgrpo.training.settings.config import UpdateConfig

EVAL = EvalConfig(num_prompts=7, num_images=1, num_steps=2, num_sample_prompts=2, sample_every=100)
COLUMNS = ["base", "stage-1-small-files", "stage-2-sprites"]


def two_stages(folder, **changes):
    """Small files first, then what is asked for, with other settings."""
    first = tiny_config(None, reward=("jpeg_compressibility",), eval=EVAL, checkpoint_every=1, **changes)
    second = dataclasses.replace(
        first,
        reward=("sprites", "jpeg_compressibility"),
        num_iterations=3,
        objective=VGRPO(ratio_clip=0.02, ref_weight=0.5),
        update=UpdateConfig(lr=5e-3, num_minibatches=2),
        monitor=("sprites_strict",),
    )
    return Curriculum(stages=(Stage("small-files", first), Stage("sprites", second)), output_dir=folder)


def weights_of(pipeline):
    return {name: value.detach().clone() for name, value in trainable(pipeline.transformer).items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def velocity(pipeline):
    policy = make_policy(pipeline, max_sequence_length=0)
    x_t = torch.randn((4, *policy.latent_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return policy.velocity(x_t, torch.full((4,), 0.7), policy.encode(PROMPTS))
