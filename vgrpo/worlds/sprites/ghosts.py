"""What is faintly visible where nothing should be: too faint for the judge, who reads such a cell as empty, and plain to an eye
that stretches the contrast. Training may leave letters there, and a score of the judge cannot tell.
"""

import torch
from torch import Tensor

from vgrpo.worlds.sprites.render import CELL, EMPTY, images_to_cells
from vgrpo.worlds.sprites.verifier import read

LEVELS = 255


def ghosts(images: Tensor) -> Tensor:
    """The root mean square, in 255ths, of what the worst of a board's empty cells shows beside its background, [B] of images
    [B, 3, 64, 64] in [0, 1]; NaN without an empty cell. Boards from the renderer have 2, its pixel noise; painted ones less."""
    cells = images_to_cells(images.float().cpu())  # [B, 16, 3, CELL, CELL]
    rms = _beside_background(cells).square().mean((2, 3, 4)).sqrt() * LEVELS
    return torch.where(read(images).shapes == EMPTY, rms, torch.nan).nan_to_num(-torch.inf).amax(1).nan_to_num(neginf=torch.nan)


def _beside_background(cells: Tensor) -> Tensor:
    """Cells [..., CELL, CELL] without their background: the straight line from top to bottom that fits their border best."""
    border = torch.ones(CELL, CELL)
    border[1:-1, 1:-1] = 0
    border = border / border.sum()
    height = torch.linspace(-1, 1, CELL)[:, None].expand(CELL, CELL)  # its mean over the border is 0
    level = (cells * border).sum((-1, -2), keepdim=True)
    slope = (cells * border * height).sum((-1, -2), keepdim=True) / (border * height.square()).sum()
    return cells - level - slope * height
