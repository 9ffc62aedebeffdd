"""Numbers of metrics.jsonl that are computed of an iteration's images."""

import math

import pytest
import torch

from vgrpo.training.metrics import distance_in_group


def test_the_distance_to_the_others_of_a_group():
    latents, group = torch.zeros(6, 1, 2, 2), torch.tensor([4, 0, 4, 4, 7, 0])
    latents[2], latents[3] = 3.0, 9.0  # every element differs by as much
    latents[5, 0, 0, 0] = 8.0  # a single element of four: a root mean square of 4
    found = distance_in_group(latents, group)
    assert found[[0, 2, 3, 1, 5]].tolist() == [6.0, 4.5, 7.5, 4.0, 4.0]
    assert math.isnan(found[4])  # it is alone


def test_copies_have_no_distance_and_what_is_not_finite_has_none_to_give():
    latents = torch.randn(1, 3, 5).expand(4, 3, 5).clone()
    assert distance_in_group(latents, torch.zeros(4, dtype=torch.int64)).tolist() == [0.0] * 4
    latents[1, 0, 0], latents[2] = torch.inf, latents[2] + 1
    found = distance_in_group(latents, torch.zeros(4, dtype=torch.int64))
    assert math.isnan(found[1])
    assert found[[0, 2, 3]].tolist() == pytest.approx([0.5, 1.0, 0.5], rel=1e-6)
