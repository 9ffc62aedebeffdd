"""What a world is: prompts of several kinds, and a verifier that says whether a picture shows what its prompt asks for.

Your own is a subclass with a constructor without arguments, named as `--prompts my_file:MyWorld`. General code asks a world
and never knows which one it is.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from vgrpo.core.types import Prompt


class World(ABC):
    """A source of prompts, and their judge. Dimensions: B images of H x W pixels."""

    name: ClassVar[str]
    """What users call it."""
    tags: ClassVar[tuple[str, ...]]
    """The kinds of its prompts. Each prompt's metadata holds its own as `tag`."""
    rewards: ClassVar[tuple[str, ...]]
    """The names of its rewards, as `--reward` takes them. Strict scores stand beside them and beside no other's."""
    model: ClassVar[Path | None] = None
    """The folder of a model that draws it, if one comes with it."""
    eval_batch_size: ClassVar[int] = 16
    """Pictures of its model that `vgrpo eval` draws at once."""
    hard_pixels: ClassVar[bool] = False
    """Whether its pictures are pixel art, which a page enlarges without smoothing."""

    @abstractmethod
    def draw_prompt(self, rng: random.Random, tag: str) -> Prompt:
        """A random prompt of a kind to train on, never one that is held out."""

    @abstractmethod
    def held_out_prompts(self, num_per_tag: int, tags: Sequence[str]) -> list[Prompt]:
        """The same prompts in every call, as many of each kind as asked for, or all that there are."""

    @abstractmethod
    def knows(self, prompts: list[Prompt]) -> bool:
        """Whether the verifier can judge all of them, wherever they come from."""

    @abstractmethod
    def strict(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """[B]: 1 where an image [3, H, W] in [0, 1] shows its prompt and nothing else, 0 elsewhere."""
