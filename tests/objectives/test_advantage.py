import pytest
import torch

from vgrpo.objectives.advantage import Advantages, extremes, group_moments, soft_clip

GROUP = torch.tensor([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("std", ["group", "global"])
def test_advantages_sum_to_zero_in_each_group(std):
    rewards = torch.randn(6, 1)
    a = Advantages(std=std)(rewards, torch.ones(1), GROUP, 2)
    assert a[:3].sum().abs() < 1e-5
    assert a[3:].sum().abs() < 1e-5
    assert a.abs().max() > 0.1


def test_group_std_matches_the_formula():
    rewards = torch.tensor([0.0, 1.0, 2.0, 5.0, 5.0, 8.0])
    a = Advantages(std="group")(rewards[:, None], torch.ones(1), GROUP, 2)
    for rows in (slice(0, 3), slice(3, 6)):
        r = rewards[rows]
        assert torch.allclose(a[rows], (r - r.mean()) / (r.std(correction=0) + 1e-4))


@pytest.mark.parametrize("std", ["group", "global"])
def test_a_constant_group_gives_exactly_zero(std):
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.0, 1.0, 0.3])[:, None]
    a = Advantages(std=std)(rewards, torch.ones(1), GROUP, 2)
    assert (a[:3] == 0).all()
    assert a[3:].abs().sum() > 0
    assert (Advantages(std=std)(torch.full((6, 1), 0.3), torch.ones(1), GROUP, 2) == 0).all()


def test_failed_rewards_are_left_out():
    rewards = torch.tensor([0.0, 1.0, torch.nan, 2.0, 4.0, torch.nan])[:, None]
    a = Advantages(std="group")(rewards, torch.ones(1), GROUP, 2)
    assert torch.allclose(a, torch.tensor([-1.0, 1.0, 0.0, -1.0, 1.0, 0.0]), atol=1e-3)


def test_rewards_of_different_scale():
    small, large = torch.randn(6), 100 * torch.randn(6)
    rewards, weights = torch.stack([small, large], 1), torch.tensor([1.0, 1.0])
    each = Advantages(std="group", combine="advantages")(rewards, weights, GROUP, 2)
    summed = Advantages(std="group", combine="rewards")(rewards, weights, GROUP, 2)
    alone = [Advantages(std="group")(r[:, None], torch.ones(1), GROUP, 2) for r in (small, large)]
    assert torch.allclose(each, (alone[0] + alone[1]) / 2, atol=1e-4)
    assert torch.allclose(summed, alone[1], atol=0.2)  # the large one drowns the small one


def test_hard_and_soft_clip():
    rewards = torch.tensor([0.0] * 99 + [1.0])[:, None]
    a = Advantages(std="group", clip=5.0)(rewards, torch.ones(1), torch.zeros(100, dtype=torch.long), 1)
    assert a.max() == 5
    assert soft_clip(torch.tensor([0.01]), 3.0).item() == pytest.approx(0.01, rel=1e-4)
    assert soft_clip(torch.tensor([100.0, -100.0]), 3.0).tolist() == pytest.approx([3, -3])


def test_moments_of_an_empty_group_are_zero():
    mean, std = group_moments(torch.tensor([1.0, 3.0]), torch.tensor([1, 1]), 3)
    assert mean.tolist() == [0, 2, 0]
    assert std.tolist() == [0, 1, 0]


def test_the_extremes_of_every_group_are_kept_and_centred():
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    advantage = torch.tensor([0.1, -2.0, 0.5, 0.0, 1.0, 0.2, -0.3, 0.9])
    rows, values = extremes(advantage, group, 0.5)
    assert rows.tolist() == [1, 2, 4, 6]
    assert values.tolist() == pytest.approx([-1.25, 1.25, 0.65, -0.65])
    rows, values = extremes(advantage, group, 1.0)
    assert rows.tolist() == list(range(8))
    assert values[:4].sum().abs() < 1e-6
