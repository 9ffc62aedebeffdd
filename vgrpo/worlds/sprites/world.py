"""The sprites world as general code sees it."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.worlds.base import World
from vgrpo.worlds.sprites.grammar import TAGS, held_out_prompts, sample_prompt
from vgrpo.worlds.sprites.render import SHAPES
from vgrpo.worlds.sprites.verifier import score


class SpritesWorld(World):
    name = "sprites"
    tags = TAGS
    rewards = ("sprites", "sprites_strict", "sprites_preference")
    model = Path(__file__).with_name("base")
    eval_batch_size = 256
    hard_pixels = True

    def draw_prompt(self, rng: random.Random, tag: str) -> Prompt:
        return sample_prompt(rng, tag)

    def held_out_prompts(self, num_per_tag: int, tags: Sequence[str]) -> list[Prompt]:
        return held_out_prompts(num_per_tag, tags=tags)

    def knows(self, prompts: list[Prompt]) -> bool:
        return all(_can_judge(prompt.metadata) for prompt in prompts)

    def strict(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        return score(images, prompts).strict


def _can_judge(metadata: dict[str, Any]) -> bool:
    """GenEval's prompts have the same tags, but name other objects."""
    if metadata.get("tag") not in TAGS:
        return False
    if isinstance(metadata.get("text"), str) and metadata["text"]:
        return True
    include = metadata.get("include")
    return isinstance(include, list) and bool(include) and all(item["class"] in SHAPES for item in include)
