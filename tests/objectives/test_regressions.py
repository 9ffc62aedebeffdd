"""RAM, FlowAWR, AdvantageFlow, RVM, EPG, PEPG and PAR: values and gradients against the published formulas in fp64."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import rivals
from helpers.formulas import GROUP, make, numbers

from vgrpo.core.probes import noisy
from vgrpo.core.types import Batch
from vgrpo.objectives import AWM, EPG, RAM, RVM, AdvantageFlow, DiffusionNFT, FlowAWR
from vgrpo.objectives.advantage import Advantages
from vgrpo.objectives.forward.regression import exponential_weight

CASES = {
    "ram": (RAM(), rivals.ram),
    "ram far": (RAM(reward_multiplier=1000.0, num_probes=3), rivals.ram),
    "flowawr": (FlowAWR(), rivals.flow_awr),
    "flowawr held": (FlowAWR(kl_weight=0.5), rivals.flow_awr),
    "advantageflow": (AdvantageFlow(), rivals.advantage_flow),
    "advantageflow 1.1": (AdvantageFlow(old_weight=1.1, kl_weight=0.1), rivals.advantage_flow),
    "rvm": (RVM(), rivals.rvm),
    "rvm held": (RVM(kl_weight=0.3), rivals.rvm),
    "epg": (EPG(), rivals.epg),
    "pepg": (EPG(mode="pepg", kl_weight=0.1), rivals.epg),
    "par": (EPG(mode="par"), rivals.epg),
}


def arguments(objective, batch, v, base):
    x_t, t, eps, x_0, w, old, ref = numbers(batch, v, base)
    return objective, batch.advantage.double().tolist(), x_t, t, eps, x_0, w, w, old, ref


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_equals_the_published_formula(name, seed):
    objective, formula = CASES[name]
    batch, v, base = make(objective, seed)
    loss, metrics = objective.loss(v, base, batch)
    values = arguments(objective, batch, v, base)
    expected = np.array(formula(*values))
    if isinstance(objective, AdvantageFlow):
        expected -= rivals.advantage_flow_constant(*values)
    assert np.allclose(loss.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert all(metrics[key].shape == (6,) for key in ("ratio", "surrogate", "kl"))


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_published_formulas(name):
    """Along random directions, by differences of the formula in fp64, in which what is held fixed does not move."""
    objective, formula = CASES[name]
    batch, v, base = make(objective, spread=0.5)
    grad = torch.autograd.grad(objective.loss(v, base, batch)[0].sum(), v)[0].double().flatten(2).numpy()
    values = arguments(objective, batch, v, base)
    rng, step = np.random.default_rng(0), 1e-4
    for _ in range(2):
        direction = rng.standard_normal(grad.shape)
        above, below = (np.array(formula(*values[:6], values[6] + s * direction, *values[7:])) for s in (step, -step))
        by_image = (grad * direction).sum((1, 2))
        assert np.allclose(by_image, (above - below) / (2 * step), rtol=1e-4, atol=1e-5)


def test_without_a_pull_towards_the_reference_rvm_is_the_weighted_flow_matching_loss():
    """Its coded form has the gradient of A l / 20, which is unbounded below for bad images."""
    objective = RVM(kl_weight=0.0)
    batch, v, base = make(objective)
    grad = torch.autograd.grad(objective.loss(v, base, batch)[0].sum(), v)[0]
    u = batch.points.noise() - batch.points.x_0[:, None]
    weighted = (batch.advantage / 20 * (v - u).square().flatten(1).mean(1)).sum()
    assert torch.allclose(grad, torch.autograd.grad(weighted, v)[0], atol=1e-7)


def test_at_the_old_weights_epg_is_a_policy_gradient_and_par_has_the_same():
    batch, v, _ = make(EPG(kl_weight=0.0))
    base = {"old": v.detach()}
    found = [
        torch.autograd.grad(EPG(mode=mode, kl_weight=0.0).loss(v, base, batch)[0].sum(), v)[0]
        for mode in ("epg", "pepg", "par")
    ]
    assert torch.allclose(found[0], found[1], atol=1e-8)
    assert torch.allclose(found[0], found[2], atol=1e-8)


def test_advantage_flow_is_convex_for_the_worst_image():
    objective = AdvantageFlow(kl_weight=0.0)
    batch, v, base = make(objective)
    batch = dataclasses.replace(batch, advantage=torch.full((6,), -5.0))
    losses = [objective.loss(scale * v, base, batch)[0] for scale in (1.0, 10.0, 100.0)]
    assert (losses[0] < losses[1]).all()
    assert (losses[1] < losses[2]).all()
    with pytest.raises(ValueError, match=r"objective\.old_weight=1\.0: must be above 1"):
        AdvantageFlow(old_weight=1.0)


def test_advantage_flow_divides_by_the_root_of_the_iterations_mean_square():
    valid = torch.tensor([True, True, True, True, True, False])
    advantage = torch.tensor([1.0, -1.0, 4.0, -2.0, -2.0, 0.0])
    batch = Batch(points=None, cond=None, advantage=advantage, group=GROUP, valid=valid)
    found = AdvantageFlow().credit.assign(batch, 0).advantage
    assert torch.allclose(found, advantage / (26 / 5) ** 0.5)


def test_an_image_without_a_reward_counts_nothing_in_its_groups_mean():
    batch, _, _ = make(FlowAWR())
    weight = exponential_weight(dataclasses.replace(batch, valid=torch.arange(6) != 5))
    assert weight[5] == 0
    assert torch.allclose(torch.stack([weight[:2].mean(), weight[2:5].mean()]), torch.ones(2))
    assert torch.allclose(weight[2] / weight[3], (batch.advantage[2] - batch.advantage[3]).exp())


def test_ram_draws_times_in_proportion_to_their_noise():
    draw = noisy(4000, 10)
    times = draw(torch.Generator().manual_seed(0)).numpy()
    allowed = np.arange(10, 0, -1) / 10
    share = np.array([np.isclose(times, t).mean() for t in allowed])
    assert share.sum() == pytest.approx(1)
    assert np.allclose(share, allowed / allowed.sum(), atol=0.02)


@pytest.mark.parametrize("kind", [DiffusionNFT, AWM, EPG, RAM, FlowAWR, AdvantageFlow])
def test_a_schedule_of_none_keeps_no_lagging_copy(kind):
    lagging, current = kind(), kind(old_schedule="none")
    assert "old" in lagging.copies
    assert "old" in lagging.needed(0, 1)
    assert current.old_decay(7) is None
    assert "old" not in current.copies
    assert "old" not in current.needed(0, 1)
    assert "old" in current.needed(1, 1)  # the weights have moved


@pytest.mark.parametrize("kind", [DiffusionNFT, AWM, EPG, FlowAWR, AdvantageFlow, RVM])
def test_without_a_distance_to_the_reference_there_is_none(kind):
    objective = kind(kl_weight=0.0)
    assert "ref" in kind().copies
    assert "ref" not in objective.copies
    assert "ref" not in objective.needed(1, 1)


def test_what_a_loss_does_not_read_is_not_asked_for():
    assert AWM(old_schedule="none", old_weight=0.0, kl_weight=0.0).needed(1, 2) == ()
    assert RVM(kl_weight=0.0).needed(1, 2) == ()
    batch, v, _ = make(RVM(kl_weight=0.0))
    assert torch.isfinite(RVM(kl_weight=0.0).loss(v, {"old": v.detach()}, batch)[0]).all()


def test_averaged_weights_of_ram_lag_as_published():
    assert [RAM().old_decay(n) for n in (0, 50, 500)] == [0, 0.5, 0.9]


def test_advantages_may_stay_in_the_rewards_units():
    rewards = torch.tensor([[1.0], [3.0], [5.0], [5.0], [float("nan")], [11.0]])
    found = Advantages(std="none")(rewards, torch.ones(1), GROUP, 2)
    assert torch.allclose(found, torch.tensor([-1.0, 1.0, -2.0, -2.0, 0.0, 4.0]))
