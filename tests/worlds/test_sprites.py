"""The embedded world: its prompts, its pictures and its judge."""

import random

import pytest
import torch
from torch.nn.functional import avg_pool2d

from vgrpo.core.types import Prompt
from vgrpo.support.spelling import edit_distance
from vgrpo.worlds.sprites import verifier
from vgrpo.worlds.sprites.art import LETTERS, SPRITES
from vgrpo.worlds.sprites.build import MAX_TOKENS, build_tokenizer
from vgrpo.worlds.sprites.grammar import TAGS, held_out_prompts, prompt_stream, sample_prompt
from vgrpo.worlds.sprites.render import COLORS, EMPTY, SHAPES, Scene, render
from vgrpo.worlds.sprites.scenes import sample_scene


@pytest.fixture(scope="module")
def world():
    """1,400 prompts and boards that show them."""
    rng = random.Random(1)
    stream = prompt_stream(rng)
    prompts = [next(stream) for _ in range(1400)]
    return prompts, render([sample_scene(prompt, rng) for prompt in prompts], torch.Generator().manual_seed(1))


def test_the_judge_accepts_exact_boards(world):
    prompts, images = world
    scores = verifier.score(images, prompts)
    assert scores.strict.mean() >= 0.995
    assert scores.reward.mean() >= 0.995


def test_the_judge_reads_every_drawing_in_every_colour():
    scenes, expected = [], []
    for shape in range(len(SHAPES)):
        for color in range(len(COLORS)):
            scenes.append(Scene(shapes=(EMPTY,) * 5 + (shape,) + (EMPTY,) * 10, colors=(EMPTY,) * 5 + (color,) + (EMPTY,) * 10))
            expected.append((shape, color))
    board = verifier.read(render(scenes, torch.Generator().manual_seed(0)))
    got = list(zip(board.shapes[:, 5].tolist(), board.colors[:, 5].tolist(), strict=True))
    wrong = [(SHAPES[a], COLORS[b]) for (a, b), other in zip(expected, got, strict=True) if (a, b) != other]
    assert len(wrong) <= 1, wrong
    assert (board.shapes[:, :5] == EMPTY).all()


def test_mismatched_captions_earn_almost_nothing(world):
    prompts, images = world
    scores = verifier.score(images, prompts[3:] + prompts[:3])
    assert scores.strict.mean() < 0.01
    assert scores.reward.mean() < 0.1


def hacks(images):
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return {
        "empty": torch.full_like(images, 0.88),
        "blurred": avg_pool2d(images, 5, 1, 2),
        "noise": noise,
        "noisy": (images + 0.6 * (noise - 0.5)).clamp(0, 1),
        "one colour": torch.tensor([0.84, 0.18, 0.2])[:, None, None].expand_as(images),
        "white": torch.ones_like(images),
        "drifting white": (images + 0.12).clamp(0, 1),
        "drifting dark": images * 0.85,
    }


@pytest.mark.parametrize("name", list(hacks(torch.zeros(1, 3, 64, 64))))
def test_bribes_earn_nothing(world, name):
    prompts, images = world
    assert verifier.score(hacks(images)[name], prompts).reward.mean() < 0.005


def test_tiled_and_overcrowded_boards_earn_nothing():
    rng = random.Random(0)
    prompts = held_out_prompts(20)
    tiled = [Scene(shapes=(rng.randrange(12),) * 16, colors=(rng.randrange(8),) * 16) for _ in prompts]
    crowded = [
        Scene(shapes=tuple(rng.randrange(38) for _ in range(16)), colors=tuple(rng.randrange(8) for _ in range(16)))
        for _ in prompts
    ]
    for scenes in (tiled, crowded):
        assert (verifier.score(render(scenes, torch.Generator().manual_seed(0)), prompts).reward == 0).all()


def test_palette_drift_is_noticed(world):
    prompts, images = world
    colored = [i for i, prompt in enumerate(prompts) if prompt.metadata["tag"] == "colors"]
    grey = images.mean(1, keepdim=True)
    scores = verifier.score((0.4 * images + 0.6 * grey)[colored], [prompts[i] for i in colored])
    assert scores.strict.mean() < 0.2


def judge(cells, **metadata):
    """Scores of a board given as {cell: (shape, colour)}."""
    shapes, colors = [EMPTY] * 16, [EMPTY] * 16
    for cell, (shape, color) in cells.items():
        shapes[cell], colors[cell] = SHAPES.index(shape), COLORS.index(color)
    image = render([Scene(shapes=tuple(shapes), colors=tuple(colors))], torch.Generator().manual_seed(0))
    scores = verifier.score(image, [Prompt(text="", metadata=metadata)])
    return scores.reward.item(), scores.strict.item()


def test_partial_credit_is_genevals():
    heart, key = ("heart", "red"), ("key", "blue")
    three = {"tag": "counting", "include": [{"class": "heart", "count": 3}]}
    assert judge({0: heart, 1: heart, 2: heart}, **three) == (1, 1)
    assert judge({0: heart, 1: heart}, **three) == pytest.approx((2 / 3, 0))
    assert judge({0: heart, 1: heart, 2: heart, 3: heart}, **three) == pytest.approx((2 / 3 * 3 / 4, 0))
    assert judge({0: heart, 1: heart, 2: heart, 3: key}, **three) == pytest.approx((3 / 4, 0))
    position = {
        "tag": "position",
        "include": [{"class": "key", "count": 1}, {"class": "heart", "count": 1, "position": ["left of", 0]}],
    }
    assert judge({0: heart, 2: key}, **position) == (1, 1)
    assert judge({2: heart, 0: key}, **position) == pytest.approx((2 / 3, 0))
    assert judge({0: heart}, **position) == pytest.approx((1 / 3, 0))
    color = {"tag": "colors", "include": [{"class": "heart", "count": 1, "color": "blue"}]}
    assert judge({5: ("heart", "blue")}, **color) == (1, 1)
    assert judge({5: heart}, **color) == pytest.approx((0.5, 0))


def test_words_are_scored_by_edit_distance_on_one_row():
    def word(text, start):
        return {start + i: (letter, "red") for i, letter in enumerate(text)}

    cat = {"tag": "text", "include": [], "text": "CAT"}
    assert judge(word("CAT", 4), **cat) == (1, 1)
    assert judge(word("CAR", 4), **cat) == pytest.approx((2 / 3, 0))
    assert judge(word("CATS", 4), **cat) == pytest.approx((2 / 3 * 3 / 4, 0))
    assert judge(word("CAT", 2), **cat) == pytest.approx((0.75, 0))  # wraps into the next row
    assert judge({0: ("heart", "red")}, **cat) == (0, 0)


@pytest.mark.parametrize(("a", "b", "distance"), [("", "", 0), ("CAT", "CAT", 0), ("CAT", "", 3), ("KITTEN", "SITTING", 3)])
def test_edit_distance(a, b, distance):
    assert edit_distance(a, b) == distance


def test_training_and_held_out_prompts_are_disjoint():
    def facts(prompt):
        return repr([prompt.metadata["tag"], prompt.metadata.get("text"), prompt.metadata["include"]])

    stream = prompt_stream(random.Random(0))
    train = {facts(next(stream)) for _ in range(30_000)}
    held_out = [prompt for prompt in held_out_prompts(40) if prompt.metadata["tag"] != "single_object"]
    assert len(held_out) > 200
    assert not train & {facts(prompt) for prompt in held_out}
    texts = {sample_prompt(random.Random(i), "single_object").text for i in range(500)}
    assert not texts & {sample_prompt(random.Random(i), "single_object", held_out=True).text for i in range(500)}


def test_there_are_many_prompts_of_every_kind():
    stream = prompt_stream(random.Random(0))
    prompts = [next(stream) for _ in range(140_000)]
    assert {prompt.metadata["tag"] for prompt in prompts} == set(TAGS)
    assert len({prompt.text for prompt in prompts}) > 30_000
    # Two distinct colours and sprites, a relation, three phrasings: the two largest kinds alone exceed 100,000.
    num_sprites, num_colors = len(SPRITES), len(COLORS)
    pairs = num_sprites * (num_sprites - 1) * num_colors * (num_colors - 1)
    assert pairs * 4 * 3 + pairs * 4 > 100_000


def test_prompts_fit_the_tokenizer_and_words_stay_letters():
    tokenizer = build_tokenizer()
    stream = prompt_stream(random.Random(0))
    lengths = [len(tokenizer(next(stream).text).input_ids) for _ in range(3000)]
    assert max(lengths) <= MAX_TOKENS
    assert tokenizer.tokenize('the word "QUIZ"') == ["the</w>", "word</w>", '"</w>', "q", "u", "i", "z</w>", '"</w>']


def test_loose_boards_break_one_fact(world):
    prompts, _ = world
    rng = random.Random(0)
    images = render([sample_scene(p, rng, looseness=1.0) for p in prompts], torch.Generator().manual_seed(0))
    scores = verifier.score(images, prompts)
    assert scores.strict.mean() < 0.3
    assert scores.reward.mean() > 0.4


def test_drawings_are_distinct():
    assert len(SPRITES) >= 12
    assert len(LETTERS) == 26
    assert len(set(SPRITES.values()) | set(LETTERS.values())) == len(SHAPES)


def test_the_judge_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"not \[1, 3, 32, 32\]"):
        verifier.read(torch.zeros(1, 3, 32, 32))
