"""Stable Diffusion 3 and 3.5 (arXiv:2403.03206), and everything else that loads as a StableDiffusion3Pipeline."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vgrpo.core.flow import to_timestep
from vgrpo.core.types import Cond
from vgrpo.models.policy import JOINT_ATTENTION, Policy
from vgrpo.models.resolution import sides_of


@dataclass(kw_only=True)
class SD3Policy(Policy):
    """`max_sequence_length` counts T5 tokens; without a T5 the pipeline appends as many zero vectors to the text."""

    lora_targets: ClassVar[tuple[str, ...]] = JOINT_ATTENTION

    def __post_init__(self) -> None:
        config = self.pipeline.transformer.config
        most = config.pos_embed_max_size * config.patch_size * self.pipeline.vae_scale_factor
        if self.resolution is not None and max(sides_of(self.resolution)) > most:
            raise ValueError(f"resolution={self.resolution}: this network knows places up to {most} pixels per side")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        height, width = self.sides(pipe.default_sample_size * pipe.vae_scale_factor)
        return pipe.transformer.config.in_channels, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor

    @property
    def num_text_tokens(self) -> int:
        """CLIP's tokens come first."""
        return int(self.pipeline.text_encoder.config.max_position_embeddings) + self.max_sequence_length

    def blank_text(self, rows: int) -> Cond:
        config = self.pipeline.transformer.config
        sequence = self.blank(rows, self.num_text_tokens, config.joint_attention_dim)
        return Cond(sequence=sequence, pooled=self.blank(rows, config.pooled_projection_dim))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            texts, None, None, self.device, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Cond(sequence=sequence, pooled=pooled)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        return self.pipeline.transformer(
            hidden_states=x_t.to(cond.sequence.dtype),
            timestep=to_timestep(t),
            encoder_hidden_states=cond.sequence,
            pooled_projections=cond.pooled,
            return_dict=False,
        )[0]
