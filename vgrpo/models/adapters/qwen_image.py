"""Qwen-Image (arXiv:2508.02324), and everything else that loads as a QwenImagePipeline.

The network sees 2 x 2 latents as one token. Guidance here is the pipeline's `true_cfg_scale` with the empty text as its
negative prompt, and as there, each guided token keeps the norm that it has without guidance. Needs diffusers 0.37 or newer:
older ones ignore the mask.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgrpo.core.types import Cond
from vgrpo.models.adapters.packed import PackedPolicy, pack, unpack
from vgrpo.models.latents import to_images, unscaled

STEP = 64
"""Tokens. Texts are padded to a multiple of so many and not to the most that there may be, which the network would compute on
at every layer; and not to their own length, since each length is another shape to compile."""


def padded(text: Cond, most: int) -> Cond:
    """To the next multiple of STEP, but no longer than `most`."""
    length = text.sequence.shape[1]
    return text.padded(max(length, min(-(-length // STEP) * STEP, most)))


@dataclass(kw_only=True)
class QwenImagePolicy(PackedPolicy):
    """`max_sequence_length` counts tokens after the system prompt, which the pipeline cuts off."""

    guidance_name: ClassVar[str] = "true_cfg_scale"

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 512

    def blank_text(self, rows: int) -> Cond:
        sequence = self.blank(rows, self.num_text_tokens, self.pipeline.transformer.config.joint_attention_dim)
        return Cond(sequence=sequence, mask=torch.ones_like(sequence[..., 0], dtype=torch.bool))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, mask = self.pipeline.encode_prompt(texts, self.device, max_sequence_length=self.max_sequence_length)
        if mask is None:  # the pipeline's way to say that no text is shorter than another
            mask = sequence.new_ones(sequence.shape[:2])
        return padded(Cond(sequence=sequence, mask=mask.bool()), self.num_text_tokens)

    def guided(self, v_empty: Tensor, v_text: Tensor, guidance: float) -> Tensor:
        height, width = v_text.shape[-2:]
        tokens = pack(super().guided(v_empty, v_text, guidance))
        norm = pack(v_text).norm(dim=-1, keepdim=True)
        return unpack(tokens * (norm / tokens.norm(dim=-1, keepdim=True)), height, width)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        height, width = x_t.shape[-2:]
        tokens, shapes = self.tokens(x_t, cond)
        v = self.pipeline.transformer(
            hidden_states=tokens,
            timestep=t.to(tokens.dtype),
            encoder_hidden_states=cond.sequence,
            encoder_hidden_states_mask=cond.mask,
            img_shapes=[shapes] * len(x_t),
            return_dict=False,
        )[0]
        return unpack(v[:, : height * width // 4], height, width)

    def tokens(self, x_t: Tensor, cond: Cond) -> tuple[Tensor, list[tuple[int, int, int]]]:
        """What the network sees beside the text [M, T, 4 C], and the frames, height and width of each picture in it."""
        height, width = x_t.shape[-2:]
        return pack(x_t).to(cond.sequence.dtype), [(1, height // 2, width // 2)]

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        vae = self.pipeline.vae  # made for video: [B, C, F, H, W], here of one frame
        return to_images(vae.decode(unscaled(vae, x_0[:, :, None]), return_dict=False)[0][:, :, 0])
