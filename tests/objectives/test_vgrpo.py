"""The objective against the paper's formulas, written out in plain fp64 loops, and its invariants."""

import dataclasses
import math

import pytest
import torch

from vgrpo.core import flow
from vgrpo.core.types import Batch
from vgrpo.objectives import VGRPO

SHAPE = (3, 2, 2)
GROUP = torch.tensor([0, 0, 1, 1, 1])


def make(objective, group=GROUP, seed=0):
    torch.manual_seed(seed)
    x_0 = torch.randn(len(group), *SHAPE)
    probes = objective.points(x_0, group, "run", seed)
    v_old = torch.randn(len(group), objective.num_probes, *SHAPE)
    v = (v_old + 0.1 * torch.randn_like(v_old)).requires_grad_()
    return probes, v, v_old, torch.randn(len(group))


def loss_of(objective, v, v_old, probes, advantage, group=GROUP):
    valid = torch.ones(len(group), dtype=torch.bool)
    return objective.loss(v, {"old": v_old}, Batch(points=probes, cond=None, advantage=advantage, group=group, valid=valid))


def reference_surrogate(objective, probes, v, i):
    """-mean_j [mean_d err^2 / mean_d |err|] by loops, from the definitions."""
    total = 0.0
    for j in range(objective.num_probes):
        t = float(probes.t[probes.pair[i], j])
        squared, absolute = [], []
        for x_0, eps, velocity in zip(
            probes.x_0[i].flatten().tolist(),
            probes.eps[probes.pair[i], j].flatten().tolist(),
            v[i, j].flatten().tolist(),
            strict=True,
        ):
            x_t = (1 - t) * x_0 + t * eps
            if objective.prediction == "x":
                error = (x_t - t * velocity) - x_0
            elif objective.prediction == "eps":
                error = (x_t + (1 - t) * velocity) - eps
            else:
                error = velocity - (eps - x_0)
            squared.append(error**2)
            absolute.append(abs(error))
        mse, mae = sum(squared) / len(squared), sum(absolute) / len(absolute)
        total += mse / max(mae, 1e-5) if objective.self_normalize else mse
    return -total / objective.num_probes


@pytest.mark.parametrize("controls", [{}, {"ratio_clip": 0.02}])
def test_bad_images_are_left_by_the_mirrored_prediction(controls):
    objective = VGRPO(mirrored=True, soft_clip=None, ref_weight=0.5, **controls)
    probes, v, v_old, advantage = make(objective)
    ref = torch.randn_like(v_old)
    batch = Batch(points=probes, cond=None, advantage=advantage, group=GROUP, valid=torch.ones(len(GROUP), dtype=torch.bool))
    loss, _ = objective.loss(v, {"old": v_old, "ref": ref}, batch)
    mirror = torch.where(flow.expand(advantage < 0, v), 2 * v_old - v, v).detach()
    for i in range(len(GROUP)):
        s, s_old = (reference_surrogate(objective, probes, w, i) for w in (mirror, v_old))
        ratio = math.exp(s - s_old)
        if objective.ratio_clip:
            ratio = min(ratio, 1 + objective.ratio_clip)
        t = flow.expand(probes.times()[i], v[i])
        expected = -abs(float(advantage[i])) * ratio + 0.5 * float((t * (v[i] - ref[i])).square().mean().detach())
        assert float(loss[i].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_mirroring_changes_no_first_step():
    gradients = []
    for mirrored in (False, True):
        objective = VGRPO(mirrored=mirrored)
        probes, v, _, advantage = make(objective)
        loss, metrics = loss_of(objective, v, v.detach().clone(), probes, advantage)
        assert metrics["ratio"].tolist() == [1.0] * len(GROUP)
        gradients.append(torch.autograd.grad(loss.sum(), v)[0])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("prediction", ["x", "v", "eps"])
@pytest.mark.parametrize("self_normalize", [True, False])
@pytest.mark.parametrize("controls", [{}, {"ratio_clip": 0.02}, {"ratio_clip": 0.02, "kl_weight": 0.3, "soft_clip": 3.0}])
def test_loss_equals_the_published_formula(prediction, self_normalize, controls):
    objective = VGRPO(prediction=prediction, self_normalize=self_normalize, **({"soft_clip": None} | controls))
    probes, v, v_old, advantage = make(objective)
    loss, metrics = loss_of(objective, v, v_old, probes, advantage)
    for i in range(len(GROUP)):
        a = float(advantage[i])
        if objective.soft_clip:
            a = objective.soft_clip * math.tanh(a / objective.soft_clip)
        s, s_old = (reference_surrogate(objective, probes, w, i) for w in (v.detach(), v_old))
        ratio = math.exp(s - s_old)
        expected = -a * ratio
        if objective.ratio_clip:
            limited = min(max(ratio, 1 - objective.ratio_clip), 1 + objective.ratio_clip)
            expected = max(expected, -a * limited)
        t = probes.times()[i].double()
        x_new, x_old = (-flow.expand(t, w[i]) * w[i].double() for w in (v.detach(), v_old))
        expected += objective.kl_weight * float((x_new - x_old).square().mean())
        assert float(loss[i].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert float(metrics["ratio"][i]) == pytest.approx(ratio, rel=1e-4)


def gradient(objective, probes, v, v_old, advantage):
    v = v.detach().requires_grad_()
    return torch.autograd.grad(loss_of(objective, v, v_old, probes, advantage)[0].sum(), v)[0]


@pytest.mark.parametrize(
    "objective", [VGRPO(), VGRPO(ratio_clip=0.02, kl_weight=0.3), VGRPO(prediction="eps", self_normalize=False)]
)
def test_on_policy_invariants(objective):
    probes, v, _, advantage = make(objective)
    _, metrics = loss_of(objective, v, v.detach(), probes, advantage)
    assert (metrics["ratio"] == 1).all()
    up, down = (gradient(objective, probes, v, v, sign * advantage) for sign in (1, -1))
    assert torch.equal(up, -down)
    assert up.abs().max() > 0
    assert (gradient(objective, probes, v, v, torch.zeros(len(GROUP))) == 0).all()


def test_on_policy_gradient_is_the_weighted_denoising_gradient():
    objective = VGRPO(soft_clip=None)
    probes, v, _, advantage = make(objective)
    v = v.detach().requires_grad_()
    error = flow.predict_x_0(probes.x_t(), v, probes.times()) - probes.x_0[:, None]
    weight = error.abs().flatten(2).mean(2).detach()
    denoising = (error.square().flatten(2).mean(2) / weight).mean(1)
    expected = torch.autograd.grad((advantage * denoising).sum(), v)[0]
    assert torch.allclose(gradient(objective, probes, v, v, advantage), expected, atol=1e-7)


def test_distance_to_the_untrained_model_is_that_of_the_x_predictions():
    objective = VGRPO(soft_clip=None, ref_weight=0.7)
    probes, v, v_ref, advantage = make(objective)
    v = v.detach()
    batch = Batch(points=probes, cond=None, advantage=advantage, group=GROUP, valid=torch.ones(5, dtype=torch.bool))
    loss, _ = objective.loss(v, {"old": v, "ref": v_ref}, batch)
    x_new, x_ref = (flow.predict_x_0(probes.x_t(), w, probes.times()) for w in (v, v_ref))
    expected = -advantage + 0.7 * (x_new - x_ref).square().flatten(1).mean(1)
    assert torch.allclose(loss, expected, atol=1e-5)
    assert objective.baselines == ("old", "ref")
    assert VGRPO().baselines == ("old",)


def test_clip_stops_the_gradient_only_where_it_would_go_further():
    objective = VGRPO(ratio_clip=0.01, soft_clip=None)
    probes, v, v_old, _ = make(objective)
    ratio = loss_of(objective, v, v_old, probes, torch.ones(5))[1]["ratio"]
    grad = gradient(objective, probes, v, v_old, torch.ones(5)).flatten(1).abs().sum(1)
    assert ((grad == 0) == (ratio > 1.01)).all()
    grad = gradient(objective, probes, v, v_old, -torch.ones(5)).flatten(1).abs().sum(1)
    assert ((grad == 0) == (ratio < 0.99)).all()
    assert (ratio - 1).abs().max() > 0.01


def test_pairs_are_shared_as_asked():
    x_0 = torch.randn(5, *SHAPE)
    for share, sets in (("group", 2), ("batch", 1), ("none", 5)):
        probes = VGRPO(share_pairs=share).points(x_0, GROUP, 0)
        assert len(probes.t) == len(probes.eps) == sets
        eps = probes.noise()
        same = [torch.equal(eps[0], eps[i]) for i in range(1, 5)]
        assert same == [{"group": i < 2, "batch": True, "none": False}[share] for i in range(1, 5)]


@pytest.mark.parametrize("num_probes", [1, 3, 4, 40])
def test_one_time_per_stratum(num_probes):
    objective = VGRPO(num_probes=num_probes, shift=3.0)
    grid = flow.schedule(40, 3.0)[:-1].float()
    seen = set()
    for seed in range(50):
        t = objective.points(torch.randn(1, *SHAPE), torch.tensor([0]), seed).t[0]
        index = [int((grid == value).nonzero()) for value in t]
        assert all(k * 40 // num_probes <= i < (k + 1) * 40 // num_probes for k, i in enumerate(index))
        seen.update(index)
    assert num_probes == 40 or len(seen) > 20


def test_unstratified_times_cover_the_schedule_without_strata():
    objective = VGRPO(stratified=False)
    t = torch.cat([objective.points(torch.randn(1, *SHAPE), torch.tensor([0]), s).t[0] for s in range(400)])
    assert abs(t.mean() - 0.5125) < 0.03
    assert any((objective.points(torch.randn(1, *SHAPE), torch.tensor([0]), s).t[0] > 0.75).sum() > 1 for s in range(20))


def test_pairs_do_not_depend_on_sharding_and_differ_between_iterations():
    objective, x_0 = VGRPO(), torch.randn(5, *SHAPE)
    whole = objective.points(x_0, GROUP, 7, "iteration", 3)
    shard = objective.points(x_0[2:], GROUP[2:], 7, "iteration", 3)
    assert torch.equal(whole.noise()[2:], shard.noise())
    assert torch.equal(whole.times()[2:], shard.times())
    other = objective.points(x_0, GROUP, 7, "iteration", 4)
    assert not torch.equal(whole.eps, other.eps)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"num_probes": 41}, "num_probes=41"),
        ({"num_probes": 0}, "num_probes=0"),
        ({"ratio_clip": 1.5}, "ratio_clip=1.5"),
        ({"soft_clip": 0.0}, "soft_clip=0"),
        ({"kl_weight": -1.0}, "kl_weight=-1"),
        ({"shift": 0.0}, "shift=0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(VGRPO(), **settings)


@pytest.mark.parametrize(("num_probes", "share"), [(1, "group"), (4, "none"), (5, "batch")])
def test_antithetic_pairs_have_opposite_noise_and_nothing_else_changes(num_probes, share):
    x_0 = torch.randn(5, *SHAPE)
    plain = VGRPO(num_probes=num_probes, share_pairs=share).points(x_0, GROUP, 0)
    opposed = VGRPO(num_probes=num_probes, share_pairs=share, antithetic=True).points(x_0, GROUP, 0)
    assert torch.equal(opposed.t, plain.t)
    assert torch.equal(opposed.eps[:, ::2], plain.eps[:, ::2])
    assert torch.equal(opposed.eps[:, 1::2], -plain.eps[:, : num_probes // 2 * 2 : 2])


def test_antithetic_pairs_take_away_what_is_odd_in_the_noise():
    """The squared error of v has a term that is odd in eps; two opposite noises cancel it."""
    x_0, group = torch.randn(64, *SHAPE), torch.arange(64)

    def spread(antithetic):
        objective = VGRPO(
            num_probes=2, num_timesteps=2, shift=1e-3, prediction="v", self_normalize=False, antithetic=antithetic
        )
        probes = [objective.points(x_0, group, seed) for seed in range(64)]
        # v = eps misses the target eps - x_0 by x_0; a tenth of eps more makes the square's odd term 2 x_0 eps / 10.
        s = [objective.surrogate(1.1 * points.noise(), points) for points in probes]
        return torch.stack(s).std(0).mean()

    assert spread(True) < 0.5 * spread(False)
