"""Qwen-Image-Edit (arXiv:2508.02324), which edits a picture by an instruction, and everything else that loads as a
QwenImageEditPipeline.

Its language model sees the source, also beside the empty text of guidance; the network sees the source's tokens behind the
picture's own. The pipeline scales a source to a megapixel whatever it draws; here it has the output's size. Its processor needs
torchvision.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.types import Cond
from vgrpo.models.adapters.editing import EditPolicy
from vgrpo.models.adapters.qwen_image import QwenImagePolicy, padded
from vgrpo.models.latents import scaled

PIXELS = 28
"""Per side of a token of the language model's eyes."""
LEAST_AREA = 56**2
"""Pixels to which it enlarges smaller pictures."""


@dataclass(kw_only=True)
class QwenImageEditPolicy(QwenImagePolicy, EditPolicy):
    """`max_sequence_length` counts tokens after the system prompt and the picture's own. The pipeline cuts off no text."""

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 1024

    @property
    def num_text_tokens(self) -> int:
        """The language model's tokens of the picture come first."""
        height, width = self.size
        enlarged = max(1.0, (LEAST_AREA / (height * width)) ** 0.5)
        return self.max_sequence_length + max(1, round(height * enlarged / PIXELS)) * max(1, round(width * enlarged / PIXELS))

    def blank_text(self, rows: int) -> Cond:
        text = super().blank_text(rows)
        return replace(text, image=self.blank_source(rows), empty=text)

    def encode_edit(self, text: str, picture: Image.Image) -> Cond:
        own, empty = self._encode(text, picture), self._encode("", picture)
        return replace(own, image=self.source_tokens(picture), empty=empty)

    def _encode(self, text: str, picture: Image.Image) -> Cond:
        sequence, _ = self.pipeline.encode_prompt([text], picture, self.device)
        sequence = sequence[:, : self.num_text_tokens]
        mask = sequence.new_ones(sequence.shape[:2], dtype=torch.bool)
        return padded(Cond(sequence=sequence, mask=mask), self.num_text_tokens)

    def source_latents(self, vae: Any, pixels: Tensor) -> Tensor:
        return scaled(vae, vae.encode(pixels[:, :, None]).latent_dist.mode())[:, :, 0]

    def tokens(self, x_t: Tensor, cond: Cond) -> tuple[Tensor, list[tuple[int, int, int]]]:
        tokens, shapes = super().tokens(x_t, cond)
        assert cond.image is not None
        return torch.cat([tokens, cond.image], 1), 2 * shapes
