"""Faint letters in empty cells: the judge does not see them, the monitor does."""

import pytest
import torch

from vgrpo.core.types import Prompt
from vgrpo.rewards.registry import load_reward
from vgrpo.worlds.sprites import verifier
from vgrpo.worlds.sprites.ghosts import ghosts
from vgrpo.worlds.sprites.render import CELL, EMPTY, NUM_SPRITES, PIXEL_NOISE, SHAPES, Scene, render

GHOST = 9  # the cell where one stands


def boards(letter):
    """Eight boards with a sprite, and a letter in another cell if one is asked for, of the same noise."""
    shapes, colors = [EMPTY] * 16, [EMPTY] * 16
    shapes[0], colors[0] = 0, 1
    if letter is not None:
        shapes[GHOST], colors[GHOST] = letter, 4
    return render([Scene(shapes=tuple(shapes), colors=tuple(colors))] * 8, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("letter", [NUM_SPRITES, len(SHAPES) - 1])
def test_a_faint_letter_shows_and_a_clean_board_does_not(letter):
    clean, written = boards(None), boards(letter)
    faint = clean + 0.04 * (written - clean)
    assert (verifier.read(faint).shapes == verifier.read(clean).shapes).all()  # the judge sees no difference
    noise = 255 * PIXEL_NOISE
    assert ghosts(clean).tolist() == pytest.approx([noise] * 8, rel=0.2)  # neither checks nor slope of the background count
    assert (ghosts(faint) > 1.5 * ghosts(clean)).all()
    cell = slice(CELL * (GHOST // 4), CELL * (GHOST // 4 + 1)), slice(CELL * (GHOST % 4), CELL * (GHOST % 4 + 1))
    drawn = (faint - clean)[:, :, *cell].square().mean((1, 2, 3)).sqrt() * 255
    assert torch.allclose(ghosts(faint).square() - noise**2, drawn.square(), rtol=0.5)


def test_objects_are_no_ghosts_and_a_full_board_has_no_empty_cell():
    assert torch.allclose(ghosts(boards(NUM_SPRITES)), ghosts(boards(None)), atol=0.5)
    full = Scene(shapes=(0,) * 16, colors=(1,) * 16)
    assert ghosts(render([full], torch.Generator().manual_seed(0))).isnan().all()


def test_it_can_be_watched_by_name():
    clean = boards(None)
    monitor = load_reward("sprites_clean")
    assert torch.equal(monitor(clean, [Prompt(text="a heart")] * 8), -ghosts(clean))


def test_the_monitor_takes_pictures_of_any_size_and_full_boards():
    monitor, prompt = load_reward("sprites_clean"), Prompt(text="a heart")
    assert monitor(torch.rand(2, 3, 96, 160), [prompt] * 2).isfinite().all()
    full = render([Scene(shapes=(0,) * 16, colors=(1,) * 16)], torch.Generator().manual_seed(0))
    assert monitor(full, [prompt]).tolist() == [0.0]
