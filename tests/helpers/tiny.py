"""The smallest real job: a random pipeline of the bundled architecture, a toy reward, settings."""

import torch
from diffusers import SD3Transformer2DModel

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.defaults import Defaults
from vgrpo.models.settings import LoraConfig
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig
from vgrpo.worlds.sprites.autoencoder import CellAutoencoder
from vgrpo.worlds.sprites.build import build_pipeline

SMALL = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "caption_projection_dim": 32}


def tiny_pipeline():
    """A random Stable Diffusion 3 pipeline like the bundled one, with a smaller transformer; the same weights every time."""
    torch.manual_seed(0)
    pipeline = build_pipeline(CellAutoencoder(latent_channels=24, hidden_channels=32))
    pipeline.register_modules(transformer=SD3Transformer2DModel.from_config(pipeline.transformer.config | SMALL))
    # Fresh weights hardly depend on the text; noise on all of them makes it matter.
    for parameter in pipeline.transformer.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return pipeline


def red(images, prompts):
    """A toy reward: how much redder than blue an image is."""
    return (images[:, 0] - images[:, 2]).mean((1, 2))


def tiny_config(folder, **changes):
    settings = {
        "output_dir": folder,
        "num_iterations": 2,
        "max_sequence_length": 0,
        "precision": "fp32",
        "device": "cpu",
        "checkpoint_every": 100,
        "rollout": RolloutConfig(num_prompts=2, group_size=4, num_steps=3),
        "update": UpdateConfig(lr=1e-3),
        "lora": LoraConfig(rank=4, alpha=8),
        "eval": EvalConfig(num_prompts=0, num_sample_prompts=2, num_steps=2, sample_every=100),
    }
    # Drawn as the bundled model is, and not as the pipeline's class would have it.
    return Config(**(settings | changes)).resolved(Defaults(num_steps=10, shift=1.0, guidance=1.0))


PROMPTS = ["a red heart", "two blue stars", "a key", "a moon above a mug"]
