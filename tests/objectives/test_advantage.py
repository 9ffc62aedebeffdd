import pytest
import torch

from vgrpo.objectives.advantage import LEAST_DEVIATION, Advantages, extremes, group_moments, soft_clip, weighted_mean

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
        least = LEAST_DEVIATION * rewards.std(correction=0)
        assert torch.allclose(a[rows], (r - r.mean()) / (r.std(correction=0) + least))


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


@pytest.mark.parametrize("std", ["group", "global"])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1.0, 1e6])
def test_rewards_teach_as_much_in_any_unit(std, scale):
    rewards = torch.tensor([0.1, 0.9, 0.4, 0.30000001, 0.3, 0.3, 0.0, 0.2, 0.7])[:, None]
    group = torch.arange(3).repeat_interleave(3)
    usual = Advantages(std=std)(rewards, torch.ones(1), group, 3)
    scaled = Advantages(std=std)(rewards * scale, torch.ones(1), group, 3)
    assert torch.allclose(scaled, usual, rtol=1e-4, atol=1e-5)
    assert (scaled[3:6] == 0).all()  # they differ by rounding
    assert scaled[:3].abs().max() > 0.5


def test_an_offset_leaves_groups_centred():
    rewards = 1000 + torch.tensor([0.0, 0.02, 0.04, 0.0, 0.0, 0.06])
    a = Advantages(std="group")(rewards[:, None], torch.ones(1), GROUP, 2)
    assert a[:3].sum().abs() < 1e-5
    assert a.abs().max() > 1


def test_a_negative_weight_is_a_penalty():
    rewards = torch.randn(6, 2)
    one = [Advantages()(column[:, None], torch.ones(1), GROUP, 2) for column in rewards.unbind(1)]

    def combined(*weights, combine="advantages"):
        return Advantages(combine=combine)(rewards, torch.tensor(weights), GROUP, 2)

    assert torch.allclose(combined(1.0, -1.0), (one[0] - one[1]) / 2, atol=1e-6)
    assert torch.allclose(combined(1.0, -2.0), (one[0] - 2 * one[1]) / 3, atol=1e-6)
    assert torch.allclose(combined(-1.0, 0.0), -one[0], atol=1e-6)
    assert torch.allclose(combined(-3.0, 0.0, combine="rewards"), -one[0], atol=1e-5)
    assert combined(1.0, -1.0, combine="rewards").isfinite().all()


def test_each_reward_is_normalised_over_the_images_it_judged():
    """Two rewards that judge disjoint groups, one of them in another unit: both groups learn as if alone."""
    nan = torch.nan
    rewards = torch.tensor([[0.0, nan], [1.0, nan], [2.0, nan], [nan, 100.0], [nan, 300.0], [nan, 200.0]])
    a = Advantages()(rewards, torch.tensor([1.0, 4.0]), GROUP, 2)
    assert a.tolist() == pytest.approx([-1.2246, 0, 1.2246, -1.2246, 1.2246, 0], abs=1e-3)


def test_a_weighted_mean_is_over_what_is_there():
    nan = torch.nan
    values = torch.tensor([[1.0, 2.0], [1.0, nan], [nan, 2.0], [nan, nan]])
    assert weighted_mean(values, torch.tensor([1.0, -3.0])).tolist() == pytest.approx([-1.25, 1, -2, nan], nan_ok=True)
    each = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 2.0], [1.0, 1.0]])  # weights of each image
    assert weighted_mean(values, each).tolist() == pytest.approx([1.5, nan, 2, nan], nan_ok=True)
