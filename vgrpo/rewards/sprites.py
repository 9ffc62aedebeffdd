"""The sprites world's verifier as rewards: with partial credit to train on, strict to compare with."""

from torch import Tensor

from vgrpo.types import Prompt
from vgrpo.worlds.sprites import verifier


def sprites(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Share of the prompt's facts that the board [B, 3, 64, 64] shows, divided down for whatever else is on it: [B]."""
    return verifier.score(images, prompts).reward


def sprites_strict(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """1 where the board shows exactly what the prompt says, else 0: [B]."""
    return verifier.score(images, prompts).strict
