"""The sprites world's own rewards: its verifier, with partial credit to train on and strict to compare with, and a learned
preference model, which can be fooled where the verifier cannot."""

from pathlib import Path

from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.preference.clip import ClipCosine, clip_and_processor
from vgrpo.worlds.sprites import verifier
from vgrpo.worlds.sprites.ghosts import ghosts

PREFERENCE = Path(__file__).parents[1] / "worlds/sprites/preference_model"


def sprites(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Share of the prompt's facts that the board [B, 3, 64, 64] shows, divided down for whatever else is on it: [B]."""
    return verifier.score(images, prompts).reward


def sprites_strict(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """1 where the board shows exactly what the prompt says, else 0: [B]."""
    return verifier.score(images, prompts).strict


def sprites_clean(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Minus what is faintly visible in the worst of a board's empty cells, in 255ths; near 0 is clean: [B]. Of any prompt."""
    return -ghosts(images)


def sprites_preference(source: str | None, device: str) -> ClipCosine:
    """The bundled preference model's cosine of board and prompt, or that of another folder `vgrpo pretrain preference` made."""
    parts = clip_and_processor("sprites_preference", source or str(PREFERENCE))
    return ClipCosine("sprites_preference", *parts, device)
