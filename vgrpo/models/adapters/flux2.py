"""FLUX.2 (Black Forest Labs, 2025), and everything else that loads as a Flux2Pipeline.

Its latents are 2 x 2 latents of the autoencoder in one: [4 C, H / 16, W / 16] for H x W pixels. FLUX.2-dev was distilled with
guidance as an input (4 is usual), so guidance costs one forward and not two.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from vgrpo.core.types import Cond
from vgrpo.models.latents import to_images
from vgrpo.models.policy import JOINT_ATTENTION, Policy


@dataclass(kw_only=True)
class Flux2Policy(Policy):
    """`max_sequence_length` counts tokens, the system message's included."""

    # A single-stream block has attention's inputs and the perceptron's in one layer; its output is another `to_out`, an ending
    # that in the other blocks is no linear layer.
    lora_targets: ClassVar[tuple[str, ...]] = (*JOINT_ATTENTION, "to_qkv_mlp_proj")
    takes_guidance: ClassVar[bool] = True

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        sides = self.sides(pipe.default_sample_size * pipe.vae_scale_factor)
        height, width = (side // (2 * pipe.vae_scale_factor) for side in sides)
        return pipe.transformer.config.in_channels, height, width

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 512

    def blank_text(self, rows: int) -> Cond:
        return Cond(sequence=self.blank(rows, self.num_text_tokens, self.pipeline.transformer.config.joint_attention_dim))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, _ = self.pipeline.encode_prompt(texts, self.device, max_sequence_length=self.max_sequence_length)
        return Cond(sequence=sequence)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        pipe, dtype = self.pipeline, cond.sequence.dtype
        v = pipe.transformer(
            hidden_states=x_t.flatten(2).transpose(1, 2).to(dtype),
            timestep=t.to(dtype),
            guidance=x_t.new_full((len(x_t),), guidance, dtype=torch.float32),
            encoder_hidden_states=cond.sequence,
            txt_ids=pipe._prepare_text_ids(cond.sequence[:1])[0].to(x_t.device),  # positions are the same in every row
            img_ids=pipe._prepare_latent_ids(x_t[:1])[0].to(x_t.device),
            return_dict=False,
        )[0]
        return v.transpose(1, 2).unflatten(2, x_t.shape[2:])

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        vae = self.pipeline.vae
        mean, variance = (value[:, None, None] for value in (vae.bn.running_mean, vae.bn.running_var))
        x_0 = x_0.to(vae.dtype) * (variance + vae.config.batch_norm_eps).sqrt() + mean
        return to_images(vae.decode(pixel_shuffle(x_0, 2), return_dict=False)[0])
