"""Every algorithm against its published formula, written out in fp64 from the papers, and what all have in common."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.formulas import GROUP, SHAPE, brightness, crd, make, numbers
from helpers.tiny import tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.core import flow
from vgrpo.models.settings import LoraConfig
from vgrpo.objectives import AWM, CRD, DGPO, FPO, OBJECTIVES, RWR, SFT, DiffusionNFT, objective_class
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig


def nft(o, a, x_t, t, eps, x_0, v, old, ref):
    losses = []
    for i in range(6):
        r, total = min(max(a[i] / 10 + 0.5, 0), 1), 0.0
        for k in range(t.shape[1]):
            plus, minus = o.beta * v[i, k] + (1 - o.beta) * old[i, k], (1 + o.beta) * old[i, k] - o.beta * v[i, k]
            errors = []
            for w in (plus, minus):
                d = (x_t[i, k] - t[i, k] * w) - x_0[i, k]
                errors.append(np.mean(d**2) / max(np.mean(abs(d)), 1e-5))
            total += 5 * (r * errors[0] + (1 - r) * errors[1]) / o.beta / t.shape[1]
        losses.append(total + o.kl_weight * np.mean((v[i] - ref[i]) ** 2))
    return losses


def awm(o, a, x_t, t, eps, x_0, v, old, ref):
    # On-policy the ratio is 1: the loss's value is -A/5 plus the penalties; its gradient is tested below.
    return [-a[i] / 5 + np.mean((v[i] - old[i]) ** 2) + o.kl_weight * np.mean((v[i] - ref[i]) ** 2) for i in range(6)]


def dgpo(o, a, x_t, t, eps, x_0, v, old, ref):
    num_probes, losses = t.shape[1], np.zeros(6)
    for members in ([0, 1], [2, 3, 4, 5]):
        for k in range(num_probes):
            error = {i: np.mean((v[i, k] - (eps[i, k] - x_0[i, k])) ** 2) for i in members}
            error_ref = {i: np.mean((ref[i, k] - (eps[i, k] - x_0[i, k])) ** 2) for i in members}
            z = sum(a[i] * o.beta * (error[i] - error_ref[i]) for i in members) / len(members)
            for i in members:
                penalty = o.kl_weight * np.mean((v[i, k] - ref[i, k]) ** 2)
                losses[i] += (a[i] * error[i] / (1 + math.exp(-z)) + penalty) / num_probes
    return losses


def fpo(o, a, x_t, t, eps, x_0, v, old, ref):
    losses = []
    for i in range(6):
        logs = []
        for w in (v, old):
            error = 0.0
            for k in range(t.shape[1]):
                noise = x_t[i, k] + (1 - t[i, k]) * w[i, k]
                d = noise - eps[i, k] if o.prediction == "eps" else w[i, k] - (eps[i, k] - x_0[i, k])
                error += np.mean(d**2) / t.shape[1]
            logs.append(-error)
        ratio = math.exp(logs[0] - logs[1])
        losses.append(
            -min(a[i] * ratio, a[i] * min(max(ratio, 1 - o.ratio_clip), 1 + o.ratio_clip))
            + o.kl_weight * np.mean((v[i] - ref[i]) ** 2)
        )
    return losses


def flow_loss(i, t, eps, x_0, v):
    return np.mean([np.mean((v[i, k] - (eps[i, k] - x_0[i, k])) ** 2) for k in range(t.shape[1])])


def rwr(o, a, x_t, t, eps, x_0, v, old, ref):
    losses = []
    for i in range(6):
        members = [j for j in range(6) if GROUP[j] == GROUP[i]]
        weight = math.exp(a[i] / o.temperature) / sum(math.exp(a[j] / o.temperature) for j in members)
        penalty = o.kl_weight * np.mean((v[i] - ref[i]) ** 2)
        losses.append(weight * len(members) * flow_loss(i, t, eps, x_0, v) + penalty)
    return losses


def sft(o, a, x_t, t, eps, x_0, v, old, ref):
    losses = []
    for i in range(6):
        members = [j for j in range(6) if GROUP[j] == GROUP[i]]
        best = a[i] == max(a[j] for j in members) and a[i] > 0
        losses.append(len(members) * flow_loss(i, t, eps, x_0, v) if best else 0.0)
    return losses


FORWARD = {name: kind for name, kind in OBJECTIVES.items() if kind().drawing.step_sampler(0, 0) is None}
CASES = [
    (DiffusionNFT(), nft), (DiffusionNFT(beta=0.1), nft), (AWM(), awm), (DGPO(), dgpo), (DGPO(beta=10), dgpo), (CRD(), crd),
    (DGPO(kl_weight=0.3), dgpo), (FPO(kl_weight=0.3), fpo),
    (CRD(centering="softmax", beta=2.0), crd), (FPO(), fpo), (FPO(prediction="v"), fpo), (RWR(), rwr),
    (RWR(temperature=0.5, kl_weight=0.1), rwr), (SFT(), sft),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "formula"), CASES, ids=lambda c: getattr(c, "__name__", type(c).__name__))
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_equals_the_published_formula(objective, formula, seed):
    batch, v, base = make(objective, seed)
    loss, metrics = objective.loss(v, base, batch)
    expected = formula(objective, batch.advantage.double().tolist(), *numbers(batch, v, base))
    assert np.allclose(loss.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert metrics["ratio"].shape == metrics["surrogate"].shape == (6,)


def test_awm_gradient_is_that_of_the_weighted_power_of_the_flow_matching_loss():
    objective = AWM(kl_weight=0.0, old_weight=0.0)
    batch, v, base = make(objective)
    grad = torch.autograd.grad(objective.loss(v, base, batch)[0].sum(), v)[0].double().flatten(2).numpy()
    _, t, eps, x_0, w, _, _ = numbers(batch, v, base)
    for i, k in np.ndindex(t.shape):
        u = eps[i, k] - x_0[i, k]
        error = np.mean((w[i, k] - u) ** 2)
        # d log p / d v = -t l^(p - 1) dl/dv, and the loss is -A/5 of it, averaged over K pairs.
        expected = float(batch.advantage[i]) / 5 / t.shape[1] * t[i, k] * (error + 1e-10) ** -0.75 * 2 * (w[i, k] - u) / len(u)
        assert np.allclose(grad[i, k], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", OBJECTIVES.values(), ids=OBJECTIVES)
def test_under_the_old_weights_the_ratio_is_one(kind):
    objective = kind()
    batch, v, _ = make(objective)
    _, metrics = objective.loss(v, {"old": v.detach(), "ref": v.detach()}, batch)
    assert torch.allclose(metrics["ratio"], torch.ones(6), atol=1e-6)


@pytest.mark.parametrize("kind", FORWARD.values(), ids=FORWARD)
def test_probes_do_not_depend_on_sharding_and_differ_between_iterations(kind):
    objective, x_0 = kind(), torch.randn(6, *SHAPE)
    whole, shard = (objective.points(x_0[rows], GROUP[rows], 7, "iteration", 3) for rows in (slice(0, 6), slice(2, 6)))
    assert torch.equal(whole.x_t()[2:], shard.x_t())
    assert not torch.equal(whole.eps, objective.points(x_0, GROUP, 7, "iteration", 4).eps)
    assert whole.times().shape == (6, objective.num_probes)
    assert (whole.times() > 0).all()


def test_awm_draws_from_the_first_nine_tenths_of_the_schedule():
    times = torch.cat([AWM().points(torch.randn(1, *SHAPE), torch.tensor([0]), seed).t for seed in range(200)])
    allowed = flow.schedule(14)[:12].float()
    assert all((allowed - t).abs().min() < 1e-6 for t in times.flatten())
    assert times.min() == allowed[-1]
    assert times.max() == 1


def test_old_weights_lag_as_published():
    assert [DiffusionNFT().old_decay(n) for n in (0, 100, 900)] == [0, 0.1, 0.5]
    late = DiffusionNFT(old_schedule="late")
    assert [round(late.old_decay(n), 4) for n in (0, 75, 85, 1000)] == [0, 0, 0.075, 0.999]
    assert [AWM().old_decay(n) for n in (0, 100, 900)] == [0, 0.1, 0.3]
    assert [CRD().old_decay(n) for n in (0, 100, 900)] == [0.25, 0.75, 0.999]


def test_a_wrong_name_is_corrected():
    with pytest.raises(ValueError, match="unknown objective 'difusionnft': did you mean diffusionnft"):
        objective_class("difusionnft")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_algorithm_raises_a_toy_reward(name, tmp_path):
    """Full-batch steps on a random pipeline; the reward is the images' brightness."""
    rate = 2.4e-2 if name in ("dgpo", "crd") else 1.6e-2
    settings = {"branchgrpo": {"splits": (0, 1)}, "tempflowgrpo": {"num_branches": 4}}.get(name, {})
    config = tiny_config(
        tmp_path / "run",
        num_iterations=10,
        objective=OBJECTIVES[name](**settings),
        lora=LoraConfig(rank=8, alpha=16),
        rollout=RolloutConfig(num_prompts=2, group_size=8, num_steps=4),
        update=UpdateConfig(lr=rate),
    )
    train(
        config, pipeline=tiny_pipeline(), reward=brightness, prompts=[Prompt(text="a heart"), Prompt(text="a key")], quiet=True
    )
    rewards = [json.loads(line)["reward/mean"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 1e-4  # other noise moves the mean by half as much
