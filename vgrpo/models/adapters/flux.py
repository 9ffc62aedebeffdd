"""FLUX.1 (Black Forest Labs, 2024), and everything else that loads as a FluxPipeline.

FLUX.1-dev was distilled with guidance as an input (3.5 is usual), so guidance costs one forward and not two; FLUX.1-schnell
takes none.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgrpo.core.types import Cond
from vgrpo.models.adapters.packed import PackedPolicy, pack, unpack


@dataclass(kw_only=True)
class FluxPolicy(PackedPolicy):
    """`max_sequence_length` counts T5 tokens, at most 256 for schnell."""

    takes_guidance: ClassVar[bool] = True

    @property
    def distilled_steps(self) -> int | None:
        return None if self.pipeline.transformer.config.guidance_embeds else 4  # FLUX.1-schnell

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 512 if pipeline.transformer.config.guidance_embeds else 256  # FLUX.1-schnell

    def blank_text(self, rows: int) -> Cond:
        config = self.pipeline.transformer.config
        sequence = self.blank(rows, self.num_text_tokens, config.joint_attention_dim)
        return Cond(sequence=sequence, pooled=self.blank(rows, config.pooled_projection_dim))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, pooled, _ = self.pipeline.encode_prompt(
            texts, None, self.device, max_sequence_length=self.max_sequence_length
        )
        return Cond(sequence=sequence, pooled=pooled)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        network, dtype = self.pipeline.transformer, cond.sequence.dtype
        height, width = x_t.shape[-2:]
        tokens, image_ids = self.tokens(x_t, cond)
        strength = x_t.new_full((len(x_t),), guidance, dtype=torch.float32) if network.config.guidance_embeds else None
        v = network(
            hidden_states=tokens,
            timestep=t.to(dtype),
            guidance=strength,
            pooled_projections=cond.pooled,
            encoder_hidden_states=cond.sequence,
            txt_ids=x_t.new_zeros(cond.sequence.shape[1], 3, dtype=dtype),
            img_ids=image_ids,
            return_dict=False,
        )[0]
        return unpack(v[:, : height * width // 4], height, width)

    def tokens(self, x_t: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """What the network sees beside the text [M, T, 4 C], and where each token is [T, 3]."""
        height, width = x_t.shape[-2:]
        dtype = cond.sequence.dtype
        ids = self.pipeline._prepare_latent_image_ids(len(x_t), height // 2, width // 2, x_t.device, dtype)
        return pack(x_t).to(dtype), ids
