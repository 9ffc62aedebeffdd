"""What a reward saw on a picture, as boxes for a person to look at: words that were read, objects, cells of a board.

A reward that finds things may have a method `found(images, prompts)`, which returns for each image of [B, 3, H, W] what it saw.
It must be cheap, since training asks for it beside every thumbnail: a reward whose look is expensive keeps what it saw while it
judged (`Seen`), and knows nothing of other pictures.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from vgrpo.core.images import stills
from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import Reward, name_of

MOST_PICTURES, MOST_BOXES = 4096, 64
"""That a reward keeps, and that are written of a picture."""
GRAIN = 32
"""Pixels per side by which a picture is known again."""
Boxes = list[list[str | int]]
"""Of a picture: label, left, top, right and bottom, in thousandths of its width and height."""


class Found(NamedTuple):
    """A thing on a picture. Its box is left, top, right and bottom as shares of the picture's width and height."""

    label: str
    box: tuple[float, float, float, float]


class Seen:
    """What a reward found on the pictures that it judged last."""

    def __init__(self) -> None:
        self._kept: dict[bytes, list[Found]] = {}

    def keep(self, image: Tensor, found: list[Found]) -> None:
        """Of a picture [3, H, W]."""
        self._kept[_key(image)] = found
        while len(self._kept) > MOST_PICTURES:
            del self._kept[next(iter(self._kept))]

    def of(self, images: Tensor) -> list[list[Found]]:
        """Of pictures [B, 3, H, W]; nothing of one that was not judged."""
        return [self._kept.get(_key(image), []) for image in images]


def remembers(reward: Reward) -> bool:
    """Whether what a reward found is known only where it judged: one of its fields is a `Seen`."""
    return any(isinstance(value, Seen) for value in getattr(reward, "__dict__", {}).values())


def _key(image: Tensor) -> bytes:
    step = max(1, min(image.shape[-2:]) // GRAIN)
    grains = image[:, ::step, ::step].detach().float().cpu().contiguous()
    return hashlib.blake2b(grains.numpy().tobytes(), digest_size=16).digest()


def boxes_on(rewards: Iterable[Reward], images: Tensor, prompts: list[Prompt]) -> dict[str, list[Boxes]]:
    """What each reward that finds things saw on images [B, 3, H, W], or on the final frames of videos [B, F, 3, H, W], by its
    name; two that see the same are named once, and one that fails shows nothing."""
    told: dict[str, list[Boxes]] = {}
    pictures = stills(images)
    for reward in rewards:
        look = getattr(reward, "found", None)
        if look is None:
            continue
        try:
            rows = [[_written(each) for each in found[:MOST_BOXES]] for found in look(pictures, prompts)]
        except Exception:  # somebody's own code, and for a frame around a picture alone: no reason to end a run
            continue
        if any(rows) and rows not in told.values():
            told[name_of(reward)] = rows
    return told


def _written(found: Found) -> list[str | int]:
    return [str(found.label), *(round(1000 * min(1.0, max(0.0, side))) for side in found.box)]
