"""Rewards on a CLIP model's cosine between image and text: CLIPScore (arXiv:2104.08718) and PickScore (arXiv:2305.01569)."""

from typing import Any

import torch
from torch import Tensor

from vgrpo.images import to_pil
from vgrpo.rewards.weights import fetch
from vgrpo.types import Prompt


class ClipCosine:
    """cos(image, text), times exp(logit_scale) if `use_logit_scale`, times `scale`.

    `source` is a hub id or a folder with a transformers CLIPModel; `processor` where its preprocessing is, if elsewhere.
    """

    def __init__(
        self,
        name: str,
        source: str,
        size: str,
        *,
        processor: str | None = None,
        use_logit_scale: bool = False,
        scale: float = 1.0,
    ) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.__name__ = name
        self.use_logit_scale, self.scale = use_logit_scale, scale
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = fetch(CLIPModel, source, name, size).to(self.device).eval().requires_grad_(False)
        self.processor: Any = fetch(CLIPProcessor, processor or source, name, size)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        inputs = self.processor(
            images=[to_pil(image) for image in images],
            text=[prompt.text for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        output = self.model(**inputs)
        cosine = (output.image_embeds * output.text_embeds).sum(-1)  # both come normalised
        factor = self.model.logit_scale.exp() if self.use_logit_scale else 1.0
        return cosine * factor * self.scale


def clipscore(source: str | None = None) -> ClipCosine:
    """CLIP ViT-L/14's cosine, which reports multiply by 100 and divide by 100 again."""
    return ClipCosine("clipscore", source or "openai/clip-vit-large-patch14", "1.7 GB")


def pickscore(source: str | None = None) -> ClipCosine:
    """PickScore divided by 26, which brings it near 1 as in training; reports divide it by 100 instead."""
    own = source or "yuvalkirstain/PickScore_v1"
    processor = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K" if source is None else None
    return ClipCosine("pickscore", own, "3.9 GB", processor=processor, use_logit_scale=True, scale=1 / 26)
