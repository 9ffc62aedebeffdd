"""The judge of the sprites world. It sees pixels alone: it reads every cell, then compares the board with the prompt.

Dimensions: B images, S shapes, Q = 3 * 256 values of a cell.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.support.spelling import similarity
from vgrpo.worlds.sprites.render import (
    CELL,
    COLORS,
    EMPTY,
    GRID,
    NUM_CELLS,
    NUM_SPRITES,
    PALETTE,
    SHAPES,
    SIZE,
    TONE_SCALE,
    TONE_SHIFT,
    images_to_cells,
    tone_maps,
)
from vgrpo.worlds.sprites.scenes import holds

JUNK = -2
MAX_OBJECTS = 8  # more than this on one board is overcrowding and earns nothing

# Mean squared errors per value, in [0, 1] units; the renderer's own cells stay five times below them.
EMPTY_ERROR, MATCH_ERROR, UNEXPLAINED = 0.0015, 0.012, 0.22
COLOR_DISTANCE = 0.12  # from a palette colour, in RGB; the renderer's own jitter stays below it
BACKGROUND_LIGHT, BACKGROUND_TINT = (0.78, 0.967), 0.14


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the judge read. `shapes` and `colors` [B, 16] index SHAPES and COLORS, or hold EMPTY or JUNK."""

    shapes: Tensor
    colors: Tensor


@cache
def _templates() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per shape and pixel: ink mask, tone scale and tone shift under it, [256, 3 S] side by side; and per shape the sums
    that do not depend on the image: number of ink pixels, sum of scale^2, sum of scale * shift, sum of shift^2 [4, S]."""
    tones = tone_maps().flatten(1)  # [S, 256]
    ink = (tones > 0).float()
    scale, shift = TONE_SCALE[tones] * ink, TONE_SHIFT[tones] * ink
    sums = torch.stack([ink.sum(1), (scale**2).sum(1), (scale * shift).sum(1), (shift**2).sum(1)])
    border = torch.ones(CELL, CELL, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return torch.cat([ink, scale, shift]).T.contiguous(), sums, border.flatten(), torch.tensor(list(PALETTE.values())) / 255


def read(images: Tensor) -> Board:
    """Read boards [B, 3, 64, 64] in [0, 1]: the shape and colour that explain each cell best, in closed form.

    A shape predicts `scale * colour + shift` on its ink and the cell's background elsewhere, so its best colour is a least
    squares fit and its error needs three weighted sums of the cell, which one matrix product gives for every shape.
    """
    if images.shape[1:] != (3, SIZE, SIZE):
        raise ValueError(f"the sprites judge reads images [B, 3, {SIZE}, {SIZE}], not {list(images.shape)}")
    weights, (num_ink, scale2, scale_shift, shift2), border, palette = _templates()
    x = images_to_cells(images.float().cpu()).flatten(3)  # [B, 16, 3, 256]
    background = x[..., border].median(-1).values  # [B, 16, 3]
    empty_error = (x - background[..., None]).square().sum((2, 3))  # [B, 16]
    ink_sum, scale_sum, shift_sum = (x @ weights).chunk(3, -1)  # each [B, 16, 3, S]
    bg = background[..., None]
    fit = scale_sum - scale_shift
    error = empty_error[..., None] + (
        2 * bg * ink_sum - bg.square() * num_ink - 2 * shift_sum + shift2 - fit.square() / scale2
    ).sum(2)  # [B, 16, S]
    error, shapes = error.min(-1)
    color = torch.gather(fit / scale2, 3, shapes[:, :, None, None].expand(-1, -1, 3, 1))[..., 0]  # [B, 16, 3]
    distance, colors = (color[:, :, None] - palette).square().sum(-1).sqrt().min(-1)

    size = 3 * CELL * CELL
    matched = (error < MATCH_ERROR * size) & (error < UNEXPLAINED * empty_error) & (distance < COLOR_DISTANCE)
    shapes = torch.where(matched, shapes, JUNK)
    shapes = torch.where(empty_error < EMPTY_ERROR * size, EMPTY, shapes)
    low, high = BACKGROUND_LIGHT
    light, tint = background.mean(-1), background.amax(-1) - background.amin(-1)
    shapes = torch.where((light < low) | (light > high) | (tint > BACKGROUND_TINT), JUNK, shapes)
    return Board(shapes=shapes, colors=torch.where(shapes >= 0, colors, shapes))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`reward` [B] in [0, 1], with partial credit; `strict` [B], 1 where the board shows the prompt and nothing else."""

    reward: Tensor
    strict: Tensor


def score(images: Tensor, prompts: list[Prompt]) -> Scores:
    """Judge images [B, 3, 64, 64] against their prompts (metadata in GenEval's format)."""
    board = read(images)
    rows = zip(board.shapes.tolist(), board.colors.tolist(), prompts, strict=True)
    reward, strict = zip(*(_judge(shapes, colors, prompt) for shapes, colors, prompt in rows), strict=True)
    return Scores(reward=torch.tensor(reward), strict=torch.tensor(strict))


def _judge(shapes: list[int], colors: list[int], prompt: Prompt) -> tuple[float, float]:
    num_objects = sum(shape >= 0 for shape in shapes)
    junk = shapes.count(JUNK)
    if num_objects + junk > MAX_OBJECTS:
        return 0.0, 0.0
    word = prompt.metadata.get("text")
    credit, wanted = _word_credit(shapes, word) if word else _facts_credit(shapes, colors, prompt)
    extra = max(0, num_objects + junk - wanted)
    strict = credit == 1.0 and extra == 0
    return credit * wanted / (wanted + extra), float(strict)


def _word_credit(shapes: list[int], word: str) -> tuple[float, int]:
    """1 - edit distance / length, on the letters row by row; full credit only for one unbroken row."""
    text = "".join(SHAPES[shape] for shape in shapes if shape >= NUM_SPRITES)
    if not text:
        return 0.0, len(word)
    credit = similarity(text, word)
    cells = [index for index, shape in enumerate(shapes) if shape >= NUM_SPRITES]
    unbroken = cells[-1] - cells[0] == len(cells) - 1 and cells[0] // GRID == cells[-1] // GRID
    return credit if unbroken else 0.75 * credit, len(word)


def _facts_credit(shapes: list[int], colors: list[int], prompt: Prompt) -> tuple[float, int]:
    """Mean credit over the prompt's facts: each object's count, its colour, its position relative to another."""
    include = prompt.metadata["include"]
    where = {item["class"]: [i for i in range(NUM_CELLS) if shapes[i] == SHAPES.index(item["class"])] for item in include}
    credits = []
    for item in include:
        cells, count = where[item["class"]], item["count"]
        credits.append(max(0.0, 1 - abs(count - len(cells)) / count))
        if "color" in item:
            right = Counter(colors[cell] for cell in cells)[COLORS.index(item["color"])]
            credits.append(right / max(len(cells), count))
        if "position" in item:
            relation, other = item["position"]
            pairs = [(divmod(a, GRID), divmod(b, GRID)) for a in cells for b in where[include[other]["class"]]]
            credits.append(sum(holds(relation, a, b) for a, b in pairs) / max(len(pairs), 1))
    return sum(credits) / len(credits), sum(item["count"] for item in include)
