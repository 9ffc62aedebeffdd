"""The dense text reward: its likelihood against every path counted one by one, and the recogniser on real letters."""

import hashlib
import itertools
import logging
import math
import random
import re
from pathlib import Path

import pytest
import rapidocr
import torch
from rapidocr import RapidOCR

from vgrpo import Prompt
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.text.ocr_ctc import likelihood, line_width, variants
from vgrpo.worlds.sprites.render import render
from vgrpo.worlds.sprites.scenes import sample_scene

WORDS = ("NAP", "TAXI", "BED", "POD", "SEED")


@pytest.fixture(scope="module")
def reward():
    return load_reward("ocr_ctc")


def board(word):
    prompt = Prompt(text=f'the word "{word}"', metadata={"tag": "text", "text": word})
    return render([sample_scene(prompt, random.Random(1))], torch.Generator().manual_seed(1))


def asked(word, times=1):
    return [Prompt(text=f'the word "{word}"')] * times


@pytest.mark.parametrize("target", ["a", "ab", "aa", "aba", "cab"])
def test_the_likelihood_counts_every_path(target):
    letters = ["", *sorted(set(target))]
    columns = torch.rand(5, len(letters), generator=torch.Generator().manual_seed(0)) / 3
    total = 0.0
    for path in itertools.product(range(len(letters)), repeat=5):
        if "".join(letters[kind] for kind, _ in itertools.groupby(path)) == target:
            total += math.prod(float(columns[step, kind]) for step, kind in enumerate(path))
    assert likelihood(columns, target) == pytest.approx(total ** (1 / len(target)), rel=1e-6)


def test_case_is_ignored_and_the_line_has_room_for_the_target():
    assert variants(["", "A", "b", "a", " "]) == {"": [0], "a": [1, 3], "b": [2], " ": [4]}
    assert line_width((64, 64), "cat") == 48
    assert line_width((64, 64), "a" * 10) == 160
    assert line_width((48, 320), "cat") == 320


def test_the_word_on_the_board_is_likelier_than_any_other(reward):
    images = torch.cat([board(word) for word in WORDS])
    table = torch.stack([reward(images, asked(word, len(WORDS))) for word in WORDS])
    assert table.diagonal().min() > 0.9
    assert (table - torch.diag(table.diagonal())).max() < 0.01


def test_it_prefers_what_is_nearer_to_the_word(reward):
    image, blank = board("CAT"), torch.full((1, 3, 64, 64), 0.8)
    coarse = torch.nn.functional.interpolate(image, size=20, mode="area")
    coarse = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    scores = [reward(x, asked(word)).item() for x, word in ((image, "CAT"), (coarse, "CAT"), (image, "CUT"), (blank, "CAT"))]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] > 100 * scores[3] > 0  # one letter off against nothing at all


def test_the_recogniser_is_fed_as_its_own_package_feeds_it(reward):
    """A line of the recogniser's own size, where nothing is resized: the characters and their mean probability."""
    line = torch.nn.functional.interpolate(board("TAXI")[:, :, :16], size=(48, 320), mode="bilinear")
    line = (line * 255).round() / 255
    columns = reward.probabilities(line, 320)[0]
    best, kinds = columns.max(-1)
    first = [step for step in range(len(kinds)) if kinds[step] and (step == 0 or kinds[step] != kinds[step - 1])]
    array = (line[0].permute(1, 2, 0).numpy() * 255).round().astype("uint8")[:, :, ::-1]
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    result = RapidOCR(params={"Global.log_level": "error"})(array, use_det=False, use_cls=False, use_rec=True)
    assert result.txts == ("TAXI",)
    assert len(first) == 4
    assert float(best[first].mean()) == pytest.approx(result.scores[0], abs=2e-4)


def test_a_score_depends_on_its_own_image_and_prompt_only(reward):
    images, prompts = (
        torch.cat([board(word) for word in WORDS]),
        [asked(word)[0] for word in ("NAP", "TAXIS", "BET", "POD", "X")],
    )
    together = reward(images, [*prompts])
    alone = torch.cat([reward(images[i : i + 1], prompts[i : i + 1]) for i in range(len(WORDS))])
    assert together.tolist() == pytest.approx(alone.tolist(), rel=1e-3)
    assert reward(images[:1], asked("nap")).item() == pytest.approx(together[0].item(), rel=1e-6)


def test_what_cannot_be_asked_for_is_nan(reward):
    assert reward(board("CAT"), [Prompt(text="a heart")]).isnan().all()
    assert reward(board("CAT"), [Prompt(text='the word "\u0e01"')]).isnan().all()
    with pytest.raises(ValueError, match=r"ocr_ctc=folder: the recogniser comes with rapidocr"):
        load_reward("ocr_ctc=folder")


def test_the_engine_is_the_one_that_the_documentation_names():
    page = (Path(__file__).parents[2] / "docs/rewards.md").read_text()
    named = dict(re.findall(r"^(PP-OCR\S+\.onnx)  ([0-9a-f]{64})$", page, re.MULTILINE))
    folder = Path(rapidocr.__file__).parent / "models"
    assert named == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("PP-OCR*.onnx")}
