"""FLUX.1 Kontext (arXiv:2506.15742), which edits a picture by an instruction, and everything else that loads as a
FluxKontextPipeline.

The network sees the source's tokens behind the picture's own, at the same places with another first coordinate. Guidance is an
input, as for FLUX.1-dev (2.5 is usual).
"""

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.types import Cond
from vgrpo.models.adapters.editing import EditPolicy
from vgrpo.models.adapters.flux import FluxPolicy


@dataclass(kw_only=True)
class FluxKontextPolicy(FluxPolicy, EditPolicy):
    """`max_sequence_length` counts T5 tokens."""

    def blank_text(self, rows: int) -> Cond:
        return replace(super().blank_text(rows), image=self.blank_source(rows))

    def before_edits(self, texts: list[str]) -> None:
        """Its two encoders take turns, which they do once for many texts."""
        if texts:
            self.encode(texts)

    def encode_edit(self, text: str, picture: Image.Image) -> Cond:
        return replace(self.encode([text]).dense(), image=self.source_tokens(picture))

    def tokens(self, x_t: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        tokens, ids = super().tokens(x_t, cond)
        assert cond.image is not None
        source_ids = ids.clone()
        source_ids[..., 0] = 1
        return torch.cat([tokens, cond.image], 1), torch.cat([ids, source_ids])
