"""What rewards saw on pictures, as boxes."""

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from vgrpo.core.images import from_pil
from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import limited
from vgrpo.rewards.found import Found, Seen, boxes_on
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.sprites import sprites, sprites_strict
from vgrpo.worlds.sprites.render import COLORS, SHAPES, Scene, render


def test_the_cells_of_a_board():
    shapes, colors = [-1] * 16, [-1] * 16
    for cell, shape, color in ((5, "heart", "red"), (10, "key", "blue")):
        shapes[cell], colors[cell] = SHAPES.index(shape), COLORS.index(color)
    images = render([Scene(shapes=tuple(shapes), colors=tuple(colors))], torch.Generator().manual_seed(0))
    told = boxes_on([sprites, sprites_strict], images, [Prompt(text="x")])
    assert told == {"sprites": [[["red heart", 250, 250, 500, 500], ["blue key", 500, 500, 750, 750]]]}
    assert boxes_on([limited(sprites, 5.0)], images, [Prompt(text="x")]) == told
    assert boxes_on([sprites], torch.zeros(1, 3, 8, 8), [Prompt(text="x")]) == {}


def test_what_was_judged_is_known_and_nothing_else():
    seen, images = Seen(), torch.rand(3, 3, 40, 60)
    seen.keep(images[1], [Found("a", (0, 0, 0.5, 1))])
    assert [len(found) for found in seen.of(images.clone())] == [0, 1, 0]
    assert seen.of(images[:1] + 0.1) == [[]]


def test_of_a_video_the_final_frame_is_looked_at():
    def finds(images, prompts):
        return torch.zeros(len(images))

    finds.found = lambda images, prompts: [[Found(f"{image.mean():.1f}", (0, 0, 1, 1))] for image in images.view(-1, 3, 8, 8)]
    videos = torch.stack([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)], 1)
    assert boxes_on([finds], videos, [Prompt(text="x")]) == {"finds": [[["1.0", 0, 0, 1000, 1000]]]}


def test_a_look_that_fails_is_left_out():
    def broken(images, prompts):
        return torch.zeros(len(images))

    def fails(images, prompts):
        raise KeyError("mine")

    broken.found = fails
    assert boxes_on([broken], torch.zeros(1, 3, 8, 8), [Prompt(text="x")]) == {}


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("rapidocr")
    return load_reward("ocr")


@pytest.mark.parametrize("size", [384, 96])
def test_words_that_were_read_stand_where_they_were_written(reader, size):
    """On a picture as it is, and on one that is enlarged for the engine."""
    picture = Image.new("RGB", (size, size), "white")
    font = ImageFont.load_default(size // 5)
    ImageDraw.Draw(picture).text((size // 4, size // 2), "TAXI", "black", font=font)
    left, top, right, bottom = (
        side / size for side in ImageDraw.Draw(picture).textbbox((size // 4, size // 2), "TAXI", font=font)
    )
    images, prompts, reward = from_pil(picture)[None], [Prompt(text='a sign "TAXI"')], reader
    assert reward.found(images, prompts) == [[]]
    assert reward(images, prompts).tolist() == [1.0]
    ((found,),) = reward.found(images, prompts)
    assert found.label == "TAXI"
    assert found.box == pytest.approx((left, top, right, bottom), abs=0.06)
