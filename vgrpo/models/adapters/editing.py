"""Models that edit a picture: every prompt has a source image, which they see beside its text.

All pictures of a run have one size, the output's. A source of another is scaled until it covers that, and cut around its
middle.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import from_pil, open_picture
from vgrpo.core.types import Cond, Prompt
from vgrpo.models.adapters.packed import PackedPolicy, pack
from vgrpo.models.latents import scaled
from vgrpo.models.sources import check_sources


@dataclass(kw_only=True)
class EditPolicy(PackedPolicy):
    """Their network sees the source's packed latents after the picture's own."""

    takes_image: ClassVar[bool] = True

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.latent_shape[1:]
        return height * self.pipeline.vae_scale_factor, width * self.pipeline.vae_scale_factor

    @torch.no_grad()
    def encode_prompts(self, prompts: list[Prompt]) -> Cond:
        """Each distinct pair of a text and a source once. Raises ValueError for a prompt without a source."""
        check_sources(self, prompts)
        distinct = list(dict.fromkeys(prompt.identity for prompt in prompts))
        names = [f"{image}\0{text}" for text, image in distinct]
        found = {name: self._cache[name] for name in names if name in self._cache}
        new = [(name, pair) for name, pair in zip(names, distinct, strict=True) if name not in found]
        with self.encoders_at_hand():  # off-loaded ones come once for all edits, and not for each
            self.before_edits([text for _, (text, _) in new])
            for name, (text, image) in new:
                assert image is not None
                found[name] = self.encode_edit(text, open_picture(image, self.size)).to(self.dtype)
        cond = Cond.cat([found[name] for name in names])
        self._cache |= found  # an edit's text goes through the cache, too, and may have pushed out others of these
        self._forget(list(found))
        place = {pair: row for row, pair in enumerate(distinct)}
        return replace(cond, index=torch.tensor([place[prompt.identity] for prompt in prompts], device=self.device))

    def before_edits(self, texts: list[str]) -> None:
        """What is done once for the texts of all new edits."""

    @abstractmethod
    def encode_edit(self, text: str, picture: Image.Image) -> Cond:
        """One row: a text with a source of the output's size."""

    def source_tokens(self, picture: Image.Image) -> Tensor:
        """The picture's packed latents, [1, T, 4 C]: their most probable value, so that they are the same at every call."""
        vae = self.pipeline.vae
        pixels = (2 * from_pil(picture)[None] - 1).to(vae.device, vae.dtype)
        return pack(self.source_latents(vae, pixels))

    def source_latents(self, vae: Any, pixels: Tensor) -> Tensor:
        """[1, C, H, W] of pixels [1, 3, H, W] in [-1, 1]."""
        return scaled(vae, vae.encode(pixels).latent_dist.mode())

    def blank_source(self, rows: int) -> Tensor:
        channels, height, width = self.latent_shape
        return self.blank(rows, height * width // 4, 4 * channels)
