"""Wan 2.1 and the 5B of Wan 2.2, text to video (arXiv:2503.20314), and everything else that loads as a WanPipeline with one
transformer. Wan 2.2's A14B has two, one for noisy times and one for the rest.

A generation is a video and its latents are [C, F, H, W]. Rewards of images judge its final frame, where the video arrives; for
those of videos all frames are decoded.
"""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.flow import to_timestep
from vgrpo.core.types import Cond
from vgrpo.models.latents import to_images, unscaled
from vgrpo.models.policy import Policy
from vgrpo.models.resolution import sides_of

NUM_FRAMES = 17  # one second; the pipeline's own 81 cost four times the tokens


@dataclass(kw_only=True)
class WanPolicy(Policy):
    """`max_sequence_length` counts UMT5 tokens. Raises ValueError for a Wan with two transformers."""

    def __post_init__(self) -> None:
        self.check_index({**self.pipeline.config, "transformer_2": self.pipeline.transformer_2})

    @classmethod
    def check_index(cls, index: dict[str, Any]) -> None:
        if index.get("boundary_ratio") is not None or index.get("transformer_2") not in (None, [None, None]):
            raise ValueError(
                "this is a Wan 2.2 A14B, whose two transformers share the times between them; one network can be trained: take "
                "Wan-AI/Wan2.2-TI2V-5B-Diffusers or a Wan 2.1"
            )

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
        own = tuple(default[name].default for name in ("height", "width"))
        sizes = own if self.resolution is None else sides_of(self.resolution)
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
            texts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length, device=self.device
        )
        return Cond(sequence=sequence)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        timestep = to_timestep(t)
        if self.pipeline.config.expand_timesteps:  # Wan 2.2 5B takes a time for each token; from text alone all have the same
            _, *patch = self.pipeline.transformer.config.patch_size
            tokens = x_t.shape[2] * math.prod(size // step for size, step in zip(x_t.shape[3:], patch, strict=True))
            timestep = timestep[:, None].expand(-1, tokens)
        return self.pipeline.transformer(
            hidden_states=x_t.to(cond.sequence.dtype),
            timestep=timestep,
            encoder_hidden_states=cond.sequence,
            return_dict=False,
        )[0]

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        """[B, C, F, H, W] to the final frame [B, 3, H, W] in [0, 1], or to all, [B, F, 3, H, W]. A frame is decoded from those
        before it, so all are."""
        vae = self.pipeline.vae
        frames = vae.decode(unscaled(vae, x_0), return_dict=False)[0].transpose(1, 2)
        return to_images(frames if self.all_frames else frames[:, -1])
