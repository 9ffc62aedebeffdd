"""A bonus for images that differ from the others of their prompt: against collapse onto one picture.

Leave one out: an image earns 1 minus the mean cosine of its CLIP features (arXiv:2103.00020) with those of the group's others,
0 to 2. Added to another reward with a small weight.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.rewards.batches import BATCH
from vgrpo.rewards.groups import GroupReward
from vgrpo.rewards.preference.clip import clip_and_processor
from vgrpo.rewards.preference.pixels import pixel_values


class Diversity(GroupReward):
    """Distance of an image's features to the group's others; NaN for an image alone."""

    __name__ = "diversity"

    def __init__(self, model: Any, processor: Any, device: str) -> None:
        self.device = device_of(device)
        self.model = model.to(self.device, torch.float32).eval().requires_grad_(False)
        self.processor = processor

    @torch.no_grad()
    def score_group(self, images: Tensor, prompt: Prompt) -> Tensor:
        features = torch.cat([self._features(some) for some in images.split(BATCH)])
        cosines = features @ features.T
        others = len(images) - 1
        return 1 - (cosines.sum(1) - cosines.diagonal()) / others if others else torch.full((1,), torch.nan)

    def _features(self, images: Tensor) -> Tensor:
        """Of length 1, [B, C]."""
        pixels = pixel_values(self.processor, images).to(self.device)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return functional.normalize(self.model.visual_projection(pooled), dim=-1)


def diversity(source: str | None, device: str) -> Diversity:
    """On CLIP ViT-L/14, which `clipscore` loads as well, or the CLIP in a folder."""
    return Diversity(*clip_and_processor("diversity", source or "openai/clip-vit-large-patch14"), device)
