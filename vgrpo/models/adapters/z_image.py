"""Z-Image and Z-Image-Turbo (arXiv:2511.22699), and everything else that loads as a ZImagePipeline.

The network counts time from noise, 1 - t, and predicts x_0 - eps, the velocity's negative. The pipeline's `guidance_scale` is
added to the text's own branch: its w is guidance 1 + w here, so Turbo, which it draws with 0, has none.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vgrpo.core.types import Cond
from vgrpo.models.policy import Policy

DEFAULT_PIXELS = 1024


@dataclass(kw_only=True)
class ZImagePolicy(Policy):
    """`max_sequence_length` counts tokens, the chat template's included. The network takes texts at their own lengths."""

    guidance_offset: ClassVar[float] = 1.0

    @property
    def distilled_steps(self) -> int | None:
        """Turbo's folder says no more than its name of what it is."""
        return 8 if "turbo" in str(getattr(self.pipeline.config, "_name_or_path", "")).lower() else None

    @property
    def num_image_tokens(self) -> int:
        return math.prod(self.latent_shape[1:]) // 4

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        height, width = (2 * (side // (2 * pipe.vae_scale_factor)) for side in self.sides(DEFAULT_PIXELS))
        return pipe.transformer.config.in_channels, height, width

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 512

    def blank_text(self, rows: int) -> Cond:
        sequence = self.blank(rows, self.num_text_tokens, self.pipeline.transformer.config.cap_feat_dim)
        return Cond(sequence=sequence, mask=torch.ones_like(sequence[..., 0], dtype=torch.bool))

    def encode_texts(self, texts: list[str]) -> Cond:
        found, _ = self.pipeline.encode_prompt(
            list(texts), self.device, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        lengths = torch.tensor([len(text) for text in found], device=found[0].device)
        blank = found[0].new_zeros(self.max_sequence_length, found[0].shape[1])  # so that texts encoded apart fit together
        sequence = pad_sequence([blank, *found], batch_first=True)[1:]
        return Cond(sequence=sequence, mask=torch.arange(sequence.shape[1], device=lengths.device) < lengths[:, None])

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        dtype = cond.sequence.dtype
        out = self.pipeline.transformer(list(x_t.to(dtype).unsqueeze(2).unbind(0)), 1 - t, _texts(cond), return_dict=False)[0]
        return -torch.stack(out).squeeze(2)


def _texts(cond: Cond) -> list[Tensor]:
    """Each text's own tokens, [L, C]."""
    mask = cond.mask
    assert mask is not None
    lengths = [mask.shape[1]] * len(cond) if mask.is_meta else mask.sum(1).tolist()
    return [row[:length] for row, length in zip(cond.sequence, lengths, strict=True)]
