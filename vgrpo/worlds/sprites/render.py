"""Scenes to pixels: a 64-pixel board of 4 x 4 cells of 16 pixels, drawn in one vectorised pass.

Dimensions: B images, S shapes, C colours, T tones.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vgrpo.worlds.sprites.art import LETTERS, SPRITES, TONES

GRID, CELL = 4, 16
NUM_CELLS, SIZE = GRID * GRID, GRID * CELL

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (215, 45, 50),
    "orange": (245, 135, 25),
    "yellow": (245, 208, 40),
    "green": (50, 160, 70),
    "blue": (45, 105, 220),
    "purple": (135, 65, 190),
    "pink": (245, 135, 185),
    "brown": (130, 85, 50),
}
SHAPES = (*SPRITES, *LETTERS)
COLORS = tuple(PALETTE)
NUM_SPRITES = len(SPRITES)
EMPTY = -1

# How a tone is made from the object's colour: tone = a * colour + b, in [0, 1]. Row 0 is the background's.
TONE_SCALE = torch.tensor([0.0, 0.38, 0.76, 1.0, 0.45])
TONE_SHIFT = torch.tensor([0.0, 0.03, 0.0, 0.0, 0.53])

BACKGROUND_RANGE = (0.83, 0.92)  # of a board's mean brightness
CHECKER, GRADIENT, COLOR_JITTER, PIXEL_NOISE = 0.022, 0.02, 0.024, 0.008


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What stands on a board: for each of the 16 cells (row by row) an index into SHAPES and COLORS, or EMPTY."""

    shapes: tuple[int, ...]
    colors: tuple[int, ...]


@cache
def tone_maps() -> Tensor:
    """Which tone every pixel of every shape has: [S, CELL, CELL], values index TONES."""
    return torch.stack([_sprite(art) for art in SPRITES.values()] + [_letter(art) for art in LETTERS.values()])


def _sprite(art: str) -> Tensor:
    rows = art.split()
    drawing = torch.tensor([[TONES.index(tone) for tone in row] for row in rows])
    return torch.nn.functional.pad(drawing, (1, 1, 1, 1))


def _letter(art: str) -> Tensor:
    """A 5 x 7 letter, doubled, with a lit top, a shaded foot and a drop shadow, so that it stands beside the sprites."""
    ink = torch.tensor([[pixel == "#" for pixel in row] for row in art.split()])
    ink = ink.repeat_interleave(2, 0).repeat_interleave(2, 1)
    ink = torch.nn.functional.pad(ink, (3, 3, 1, 1))
    above, below = ink.roll(1, 0), ink.roll(-1, 0)
    shadow = ink.roll((1, 1), (0, 1)) | below.roll(2, 0)
    tones = torch.where(shadow & ~ink, TONES.index("@"), 0)
    tones[ink] = TONES.index("#")
    tones[ink & ~above] = TONES.index("o")
    tones[ink & ~below] = TONES.index("+")
    return tones


def render(scenes: list[Scene], generator: torch.Generator) -> Tensor:
    """Draw scenes with random backgrounds, tints, colour jitter and pixel noise: [B, 3, 64, 64] in [0, 1]."""
    shapes = torch.tensor([scene.shapes for scene in scenes])  # [B, 16]
    colors = torch.tensor([scene.colors for scene in scenes])
    palette = torch.tensor(list(PALETTE.values())) / 255
    num_images = len(scenes)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    color = palette[colors.clamp(min=0)] + COLOR_JITTER * normal(num_images, NUM_CELLS, 3)
    tones = tone_maps()[shapes.clamp(min=0)] * (shapes >= 0)[..., None, None]  # [B, 16, CELL, CELL]
    tones = tones.flatten(2)
    ink = TONE_SCALE[tones][..., None] * color[:, :, None] + TONE_SHIFT[tones][..., None]  # [B, 16, 256, 3]
    board = _backgrounds(num_images, generator)
    cells = torch.where((tones > 0)[..., None], ink, board)
    images = cells_to_images(cells.unflatten(2, (CELL, CELL)).permute(0, 1, 4, 2, 3))
    return (images + PIXEL_NOISE * normal(*images.shape)).clamp(0, 1)


def _backgrounds(num_images: int, generator: torch.Generator) -> Tensor:
    """Pastel boards with a faint chequer and a faint top-to-bottom gradient: [B, 16, 256, 3]."""
    low, high = BACKGROUND_RANGE
    light = low + (high - low) * torch.rand(num_images, 1, 1, 1, generator=generator)
    tint = 0.02 * torch.randn(num_images, 1, 1, 3, generator=generator)
    row, col = torch.arange(NUM_CELLS) // GRID, torch.arange(NUM_CELLS) % GRID
    checker = CHECKER * ((row + col) % 2 - 0.5)
    height = (row[:, None] * CELL + torch.arange(CELL)) / SIZE - 0.5  # [16, CELL]
    gradient = height.repeat_interleave(CELL, 1)[..., None]  # [16, 256, 1]
    slope = GRADIENT * torch.randn(num_images, 1, 1, 1, generator=generator)
    return light + tint + checker[:, None, None] + slope * gradient


def cells_to_images(cells: Tensor) -> Tensor:
    """[B, 16, 3, CELL, CELL] to [B, 3, SIZE, SIZE]."""
    cells = cells.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(len(cells), 3, SIZE, SIZE)


def images_to_cells(images: Tensor) -> Tensor:
    """[B, 3, SIZE, SIZE] to [B, 16, 3, CELL, CELL]."""
    cells = images.unflatten(3, (GRID, CELL)).unflatten(2, (GRID, CELL))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
