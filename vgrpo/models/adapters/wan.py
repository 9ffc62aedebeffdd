"""Wan 2.1, text to video (arXiv:2503.20314), and everything else that loads as a WanPipeline with one transformer.

A generation is a video and its latents are [C, F, H, W], but what is decoded is its final frame, so that rewards of images
judge where the video arrives; no reward here sees motion.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.flow import to_timestep
from vgrpo.core.types import Cond
from vgrpo.models.policy import Policy, to_images, unscaled

NUM_FRAMES = 17  # one second; the pipeline's own 81 cost four times the tokens


@dataclass(kw_only=True)
class WanPolicy(Policy):
    """`max_sequence_length` counts UMT5 tokens. Raises ValueError for Wan 2.2."""

    def __post_init__(self) -> None:
        if self.pipeline.transformer_2 is not None or self.pipeline.config.expand_timesteps:
            raise ValueError("this is a Wan 2.2, with two transformers or a time per token; a Wan 2.1 can be trained")

    @property
    def pixel_step(self) -> int:
        pipe = self.pipeline
        return int(pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size[1])

    @property
    def frame_step(self) -> int:
        return int(self.pipeline.vae_scale_factor_temporal)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        pipe = self.pipeline
        default = inspect.signature(pipe.__call__).parameters
        sizes = (self.resolution or default[name].default for name in ("height", "width"))
        frames = ((self.num_frames or NUM_FRAMES) - 1) // self.frame_step + 1
        _, *patch = pipe.transformer.config.patch_size
        height, width = (size // (pipe.vae_scale_factor_spatial * step) * step for size, step in zip(sizes, patch, strict=True))
        return pipe.transformer.config.in_channels, frames, height, width

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 512

    def blank_text(self, rows: int) -> Cond:
        return Cond(sequence=self.blank(rows, self.num_text_tokens, self.pipeline.transformer.config.text_dim))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, _ = self.pipeline.encode_prompt(
            texts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Cond(sequence=sequence)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        return self.pipeline.transformer(
            hidden_states=x_t.to(cond.sequence.dtype),
            timestep=to_timestep(t),
            encoder_hidden_states=cond.sequence,
            return_dict=False,
        )[0]

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        """[B, C, F, H, W] to the final frame [B, 3, H, W] in [0, 1]. A frame is decoded from those before it, so all are."""
        vae = self.pipeline.vae
        return to_images(vae.decode(unscaled(vae, x_0), return_dict=False)[0][:, :, -1])
