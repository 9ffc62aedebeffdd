"""The pictures of the method measure what they say."""

import runpy
from pathlib import Path

import pytest
import torch

from vgrpo.models.weight_sets import trainable

SCRIPT = Path(__file__).parents[2] / "docs/method_figures.py"


@pytest.fixture(scope="module")
def figures():
    pytest.importorskip("matplotlib")
    return runpy.run_path(str(SCRIPT))


def test_luck_that_a_group_shares_is_no_noise(figures):
    rng = torch.Generator().manual_seed(0)
    luck, own = torch.randn(500, 1, generator=rng), torch.randn(500, 8, generator=rng)
    group, worth = torch.arange(8) // 4, torch.arange(8.0)
    assert figures["noise_of_pairs"](luck + worth - 10, group) < 1e-6
    # Four images with independent noise of deviation 1: the mean takes a quarter of its variance away.
    assert figures["noise_of_pairs"](own + worth - 10, group) == pytest.approx(0.75**0.5 / 6.5, rel=0.05)


def test_steps_start_at_the_old_weights_and_leave_them(figures):
    on = figures["subject"](2, 2)
    before = [value.clone() for value in trainable(on.policy.module).values()]
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    run = figures["steps_on_one_rollout"](on, figures["OBJECTIVE"], advantage, 2, 1e-3)
    assert torch.equal(run["ratio"][0], torch.ones(4))
    assert not torch.equal(run["ratio"][1], torch.ones(4))
    assert run["kl"][0] == 0 < run["kl"][1]
    assert all(torch.equal(a, b) for a, b in zip(before, trainable(on.policy.module).values(), strict=True))
