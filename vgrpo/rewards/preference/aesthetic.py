"""LAION's aesthetic predictor v2, the score that LAION-Aesthetics was filtered with (arXiv:2210.08402).

CLIP ViT-L/14's image embedding, scaled to length 1, through five linear layers. Prompts do not matter.
"""

from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.rewards.batches import batched
from vgrpo.rewards.downloads import beside, fetch, fetch_file, read_state
from vgrpo.rewards.preference.head import score_head
from vgrpo.rewards.preference.pixels import pixel_values

CLIP = "openai/clip-vit-large-patch14"
HEAD = "trl-lib/ddpo-aesthetic-predictor"
FILES = tuple(
    stem + suffix for stem in ("aesthetic-model", "sac+logos+ava1-l14-linearMSE") for suffix in (".pth", ".safetensors")
)


class Aesthetic:
    """Images [B, 3, H, W] to the raw score [B], trained on ratings from 1 to 10.

    `source` is a folder with the head's file and, if it holds a transformers CLIPModel too, that model's config and weights.
    """

    __name__ = "aesthetic"

    def __init__(self, source: str | None, device: str) -> None:
        from transformers import CLIPImageProcessor, CLIPModel

        self.device = device_of(device)
        path = fetch_file(source or HEAD, FILES, "aesthetic", "3.7 MB")
        clip = beside(source, "config.json", CLIP)
        self.processor: Any = fetch(CLIPImageProcessor, clip, "aesthetic")
        model: Any = fetch(CLIPModel, clip, "aesthetic").float().eval().requires_grad_(False)
        self.vision, self.projection = model.vision_model.to(self.device), model.visual_projection.to(self.device)
        self.head = score_head(read_state(path), model.config.projection_dim, "aesthetic", path).to(self.device)

    @batched
    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        pixels = pixel_values(self.processor, images).to(self.device)
        embedding = self.projection(self.vision(pixel_values=pixels).pooler_output)
        return self.head(embedding / embedding.norm(dim=-1, keepdim=True))[:, 0]


def aesthetic(source: str | None, device: str) -> Aesthetic:
    return Aesthetic(source, device)
