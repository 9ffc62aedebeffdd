"""The tables of docs/objectives.md: every algorithm has a row, and its forwards are those that it asks for."""

import re
from pathlib import Path

import pytest
import torch
from helpers.formulas import SHAPE
from helpers.paths import batch_of, rollout

from vgrpo.objectives import OBJECTIVES

PAGE = (Path(__file__).parents[2] / "docs/objectives.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d.+ ]+ \\\| [\d.]+) \|$", PAGE, re.MULTILINE))
NUM_STEPS, NUM_IMAGES = 10, 24


def test_every_algorithm_has_a_row():
    assert set(ROWS) == set(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_forwards_of_a_row(name):
    objective = OBJECTIVES[name]()
    sampler = objective.drawing.step_sampler(0, 0)
    x_0, path = (torch.randn(NUM_IMAGES, *SHAPE), None) if sampler is None else rollout(objective, NUM_IMAGES, NUM_STEPS)
    batch = batch_of(objective, x_0, path, torch.randn(NUM_IMAGES))
    trained = batch.points.times().numel() / NUM_IMAGES
    drawn, _, others = ROWS[name].partition(" \\| ")[0].partition(" + ")
    assert float(drawn) == pytest.approx(NUM_STEPS if sampler is None else sampler.num_evaluations(NUM_STEPS), abs=0.05)
    assert float(ROWS[name].split()[-1]) == pytest.approx(trained, abs=0.05)
    assert float(others or 0) == pytest.approx(len(objective.needed(0, 1)) * trained)
