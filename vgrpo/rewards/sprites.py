"""The sprites world's own rewards: its verifier, with partial credit to train on and strict to compare with, and a learned
preference model, which can be fooled where the verifier cannot."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vgrpo.core.types import Prompt
from vgrpo.rewards.found import Found
from vgrpo.rewards.preference.clip import ClipCosine, clip_and_processor
from vgrpo.worlds.sprites import verifier
from vgrpo.worlds.sprites.ghosts import ghosts
from vgrpo.worlds.sprites.render import COLORS, EMPTY, GRID, SHAPES

SIDE = 64
"""Pixels of a board."""
PREFERENCE = Path(__file__).parents[1] / "worlds/sprites/preference_model"


class Verified:
    """A score of the verifier, of the prompts whose boards it knows."""

    def __init__(self, name: str, measure: str) -> None:
        self.__name__, self.measure = name, measure

    def judges(self, prompt: Prompt) -> bool:
        return "include" in prompt.metadata

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """Of boards [B, 3, 64, 64]: [B]; NaN where the prompt is not of this world."""
        values = torch.full((len(prompts),), torch.nan)
        known = [row for row, prompt in enumerate(prompts) if self.judges(prompt)]
        if known:
            values[known] = getattr(verifier.score(images[known], [prompts[row] for row in known]), self.measure).cpu().float()
        return values

    def found(self, images: Tensor, prompts: list[Prompt]) -> list[list[Found]]:
        """The cells of each board that are not empty, as the verifier read them."""
        if images.shape[-2:] != (SIDE, SIDE):
            return [[] for _ in images]
        board = verifier.read(images)
        return [_cells(*row) for row in zip(board.shapes.tolist(), board.colors.tolist(), strict=True)]


def _cells(shapes: list[int], colors: list[int]) -> list[Found]:
    found = []
    for cell, (shape, color) in enumerate(zip(shapes, colors, strict=True)):
        if shape != EMPTY:
            row, column = divmod(cell, GRID)
            label = f"{COLORS[color]} {SHAPES[shape]}" if shape >= 0 else "unclear"
            found.append(Found(label, (column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID)))
    return found


sprites = Verified("sprites", "reward")
"""Share of the prompt's facts that the board shows, divided down for whatever else is on it."""
sprites_strict = Verified("sprites_strict", "strict")
"""1 where the board shows exactly what the prompt says, else 0."""


def sprites_clean(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Minus what is faintly visible in the worst of a board's empty cells, in 255ths; near 0 is clean, and so is a full board:
    [B]. Of any prompt, and of images [B, 3, H, W] of any size."""
    boards = images if images.shape[-2:] == (SIDE, SIDE) else interpolate(images, size=(SIDE, SIDE), mode="area")
    return -ghosts(boards).nan_to_num(0.0)


def sprites_preference(source: str | None, device: str) -> ClipCosine:
    """The bundled preference model's cosine of board and prompt, or that of another folder `vgrpo pretrain preference` made."""
    parts = clip_and_processor("sprites_preference", source or str(PREFERENCE))
    return ClipCosine("sprites_preference", *parts, device)
