"""Rewards on a CLIP model's cosine between image and text: CLIPScore (arXiv:2104.08718) and PickScore (arXiv:2305.01569)."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.rewards.batches import batched
from vgrpo.rewards.downloads import fetch
from vgrpo.rewards.preference.pixels import pixel_values


class ClipCosine:
    """cos(image, text), times exp(logit_scale) if `use_logit_scale`, times `scale`; a CLIPModel with its CLIPProcessor."""

    def __init__(
        self, name: str, model: Any, processor: Any, device: str, *, use_logit_scale: bool = False, scale: float = 1.0
    ) -> None:
        self.__name__ = name
        self.use_logit_scale, self.scale = use_logit_scale, scale
        self.device = device_of(device)
        # In fp32 however the weights are kept: half precision has too few digits to rank the images of a group by.
        self.model = model.to(self.device, torch.float32).eval().requires_grad_(False)
        self.processor = processor

    @batched
    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        pixels = pixel_values(self.processor, images, self.picture).to(self.device)
        texts = self.processor(
            text=[prompt.text for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        output = self.model(**texts, pixel_values=pixels)
        cosine = (output.image_embeds * output.text_embeds).sum(-1)  # both come normalised
        factor = self.model.logit_scale.exp() if self.use_logit_scale else 1.0
        return cosine * factor * self.scale

    def picture(self, image: Tensor) -> Image.Image:
        """What the processor gets of an image [3, H, W]."""
        return to_pil(image)


def clipscore(source: str | None, device: str) -> ClipCosine:
    """CLIP ViT-L/14's cosine, which reports multiply by 100 and divide by 100 again."""
    return ClipCosine("clipscore", *clip_and_processor("clipscore", source or "openai/clip-vit-large-patch14"), device)


def pickscore(source: str | None, device: str) -> ClipCosine:
    """PickScore divided by 26, which brings it near 1 as in training; reports divide it by 100 instead."""
    own = source or "yuvalkirstain/PickScore_v1"
    processor = source or "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    parts = clip_and_processor("pickscore", own, processor)
    return ClipCosine("pickscore", *parts, device, use_logit_scale=True, scale=1 / 26)


def clip_and_processor(name: str, source: str, processor: str | None = None) -> tuple[Any, Any]:
    """From hub ids or folders of transformers' format; the preprocessing may be kept elsewhere."""
    from transformers import CLIPModel, CLIPProcessor

    return fetch(CLIPModel, source, name), fetch(CLIPProcessor, processor or source, name)
