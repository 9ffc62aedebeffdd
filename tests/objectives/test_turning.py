"""Flow-DPPO, TempFlow-GRPO and TP-GRPO: losses, samplers and credit against plain loops in fp64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.formulas import SHAPE, make
from helpers.paths import STEPS, batch_of, rollout, velocity
from helpers.tiny import tiny_config

from vgrpo.core import flow
from vgrpo.core.solvers import euler
from vgrpo.objectives import TPGRPO, FlowDPPO, FlowGRPO, TempFlowGRPO
from vgrpo.objectives.path.temp_flow_grpo import _drawn_step
from vgrpo.training.settings.config import RolloutConfig


def flow_step(a, x, v, t, t_next):
    """Mean and deviation of Flow-GRPO's step, as published."""
    s = a * math.sqrt(t / (1 - (t_next if t >= 1 else t)))
    dt = t_next - t
    return x * (1 + s * s / (2 * t) * dt) + v * (1 + s * s * (1 - t) / (2 * t)) * dt, s * math.sqrt(-dt)


def plain(x):
    return x.detach().double().flatten(2).numpy()


def steps_of(objective, batch, v, base, i):
    """(ratio, kl per dimension, kl to the reference, noise) of every step of image i."""
    points, found = batch.points, []
    states, ends, w, old, ref = (plain(x) for x in (points.x, points.x_next, v, base["old"], base["ref"]))
    for k in range(states.shape[1]):
        t, t_next = float(points.t[i, k]), float(points.t_next[i, k])
        (mean, std), (mean_old, _), (mean_ref, _) = (
            flow_step(objective.noise, states[i, k], x[i, k], t, t_next) for x in (w, old, ref)
        )
        logs = [np.mean(-((ends[i, k] - m) ** 2) / (2 * std**2)) for m in (mean, mean_old)]
        kl = np.mean((mean - mean_old) ** 2) / (2 * std**2)
        kl_ref = np.mean((mean - mean_ref) ** 2) / (2 * std**2 / (t - t_next))
        found.append((math.exp(logs[0] - logs[1]), kl, kl_ref, std))
    return found


@pytest.mark.parametrize("limit", [1e-5, 1e-3, 1e9])
def test_flow_dppo_leaves_out_what_has_gone_too_far_and_goes_on(limit):
    objective = FlowDPPO(kl_limit=limit)
    batch, v, base = make(objective, spread=0.1)
    loss, metrics = objective.loss(v, base, batch)
    shares = []
    for i in range(6):
        a, total, left_out = float(batch.advantage[i]), 0.0, 0
        steps = steps_of(objective, batch, v, base, i)
        for ratio, kl, _, _ in steps:
            away = (ratio > 1 and a > 0) or (ratio < 1 and a < 0)
            if kl >= limit and away:
                left_out += 1
            else:
                total -= a * ratio
        assert float(loss[i].detach()) == pytest.approx(total / len(steps), rel=1e-4, abs=1e-5)
        assert float(metrics["clip_share"][i]) == pytest.approx(left_out / len(steps))
        shares.append(left_out)
    assert (sum(shares) > 0) == (limit < 1)


def test_flow_dppo_draws_as_flow_grpo_fast():
    fast, dppo = (kind(num_window_steps=3).drawing.step_sampler(0, 7, "iteration", 5) for kind in (FlowGRPO, FlowDPPO))
    assert fast.window(10) == dppo.window(10)
    assert fast.kernel == dppo.kernel


def test_tempflow_loss_is_flow_grpos_with_the_steps_noise_for_a_weight():
    objective = TempFlowGRPO(num_branches=2, ratio_clip=1e-2)
    x_0, path = rollout(objective, 6)
    torch.manual_seed(3)
    batch = batch_of(objective, x_0, path, torch.randn(6))
    old = torch.randn(path.x.shape)
    v, base = old + 0.1 * torch.randn(path.x.shape), {"old": old, "ref": old + 0.1 * torch.randn(path.x.shape)}
    loss, _ = objective.loss(v, base, batch)
    times = flow.schedule(STEPS).tolist()
    noises = [flow_step(objective.noise, 0.0, 0.0, times[k], times[k + 1])[1] for k in range(STEPS - 1)]
    for i in range(6):
        ((ratio, _, kl_ref, std),) = steps_of(objective, batch, v, base, i)
        a = float(batch.advantage[i])
        term = max(-a * ratio, -a * min(max(ratio, 0.99), 1.01))
        expected = std / np.mean(noises) * term + objective.kl_weight * kl_ref
        assert float(loss[i]) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_branches_part_at_one_step_and_nowhere_else():
    objective = TempFlowGRPO(num_branches=3)
    x_0, path = rollout(objective, 9, seed=2)
    times = flow.schedule(STEPS)
    parted = set()
    for seed in range(3):
        rows = slice(3 * seed, 3 * seed + 3)
        assert torch.equal(path.x[rows], path.x[3 * seed : 3 * seed + 1].expand(3, -1, *SHAPE))
        assert len({tuple(row.flatten().tolist()) for row in path.x_next[rows]}) == 3
        step = int((times - path.t[3 * seed, 0]).abs().argmin())
        parted.add(step)
        assert torch.allclose(euler(velocity, path.x_next[rows, 0], times[step + 1 :]), x_0[rows], atol=1e-6)
        if step > 0:
            assert step < STEPS - 1
    assert len(parted) > 1


def test_branches_cost_their_common_part_once():
    objective, calls, shared = TempFlowGRPO(num_branches=4), [], []
    sampler = objective.drawing.step_sampler(0, 0)

    def counted(x, t, rows=slice(None)):
        assert len(torch.arange(400)[rows]) == len(x)
        calls.append(len(x))
        return velocity(x, t)

    start = torch.randn(100, 1).repeat_interleave(4, 0)
    _, path = sampler(counted, start, flow.schedule(10), torch.randn(400, 10, 1))
    times = flow.schedule(10)
    for t in path.t[::4, 0]:
        step = int((times - t).abs().argmin())
        shared.append((step + 1) / 4 + 10 - (step + 1))
    assert sum(calls) / 400 == pytest.approx(np.mean(shared))
    assert np.mean(shared) == pytest.approx(sampler.num_evaluations(10), rel=0.1)


def test_the_step_of_a_branch_is_uniform_and_its_own():
    steps = _drawn_step(torch.randn(9000, 2, generator=torch.Generator().manual_seed(0)), 9)
    assert np.allclose(np.bincount(steps.numpy(), minlength=9) / 9000, 1 / 9, atol=0.015)
    x_0, path = rollout(TempFlowGRPO(num_branches=2), 4)
    rng = torch.Generator().manual_seed(0)
    starts, noise = torch.randn(4, *SHAPE, generator=rng)[[0, 0]], torch.randn(4, STEPS, *SHAPE, generator=rng)[:2]
    alone, _ = TempFlowGRPO(num_branches=2).drawing.step_sampler(0, 0)(velocity, starts, flow.schedule(STEPS), noise)
    assert torch.allclose(alone, x_0[:2])  # whoever else is drawn beside them
    assert len(path.t) == 4


def test_branches_are_compared_with_each_other():
    objective = TempFlowGRPO(num_branches=3)
    x_0, path = rollout(objective, 6)
    advantage = torch.tensor([1.0, 2.0, 6.0, -1.0, 0.0, 0.0])
    assert torch.allclose(batch_of(objective, x_0, path, advantage).advantage[:3], torch.tensor([-2.0, -1.0, 3.0]))
    batch = replace(batch_of(objective, x_0, path, advantage), advantage=advantage, valid=torch.arange(6) != 5)
    assert torch.allclose(objective.credit.assign(batch, 0).advantage[3:], torch.tensor([-0.5, 0.5, 0.0]))


@pytest.mark.parametrize(("settings", "words"), [({"group_size": 8}, "group_size=8"), ({"batch_size": 4}, "batch_size=4")])
def test_branches_are_drawn_together(settings, words, tmp_path):
    rollout = RolloutConfig(**{"num_prompts": 2, "group_size": 6, "num_steps": 4, **settings})
    with pytest.raises(ValueError, match=rf"rollout.{words}: must be a multiple of objective.num_branches=3"):
        tiny_config(tmp_path, objective=TempFlowGRPO(num_branches=3), rollout=rollout)


def test_tp_grpo_ends_deterministically_from_every_step():
    objective, calls = TPGRPO(), []

    def counted(x, t, rows=slice(None)):
        calls.append(len(x))
        return velocity(x, t)

    sampler, times = objective.drawing.step_sampler(0, 0), flow.schedule(STEPS)
    _, path = sampler(counted, torch.randn(3, *SHAPE), times, torch.randn(3, STEPS, *SHAPE))
    for step in range(STEPS - 1):
        assert torch.allclose(path.judged[:, step], euler(velocity, path.x[:, step], times[step:]), atol=1e-5)
    assert sum(calls) / 3 == sampler.num_evaluations(STEPS)
    assert objective.drawing.step_sampler(0, 0).num_evaluations(10) == 10 + 45


def sign(x):
    return (x > 0) - (x < 0)


def earnings(rows, eta):
    """What steps earn, from lists R_0 .. R_T, by the definition."""
    turning = {}
    for i, r in enumerate(rows):
        final = len(r) - 1
        for t in range(1, final + 1):
            d = sign(r[t] - r[t - 1])
            goes_on, whole = d * sign(r[final] - r[t]) > 0, sign(r[final] - r[0])
            turned = t == 1 or (sign(r[t - 1] - r[t - 2]) * whole < 0 and d * whole > 0)
            if goes_on and turned:
                turning[i, t] = eta * (r[final] - r[t - 1])
    sides = [sorted((p for p in turning if s * turning[p] > 0), key=lambda p: -abs(turning[p])) for s in (1, -1)]
    kept = {p for side in sides for p in side[: min(map(len, sides))]}
    return [[turning[i, t] if (i, t) in kept else r[t] - r[t - 1] for t in range(1, len(r))] for i, r in enumerate(rows)]


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_turning_points_earn_what_they_set_off(eta):
    rewards = torch.randn(12, STEPS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = TPGRPO(bonus=eta).credit.gains(rewards[:, -1:], rewards[:, :-1, None], torch.zeros(len(rewards)))
    expected = np.array(earnings(rewards.tolist(), eta))
    assert np.allclose(found[:, :, 0].numpy(), expected)
    assert not np.allclose(expected, rewards.diff(dim=1).numpy())


def test_a_turn_by_hand():
    rows = [[0.0, -1.0, 2.0, 3.0], [0.0, 1.0, -2.0, -3.0], [0.0, 1.0, 2.0, 2.5]]
    found = TPGRPO().credit.gains(torch.tensor(rows)[:, -1:], torch.tensor(rows)[:, :-1, None], torch.zeros(len(rows)))[:, :, 0]
    # Up from -1 to 3 and down from 1 to -3; the third's first step would earn 2.5, but one negative balances one positive.
    assert torch.equal(found, torch.tensor([[-1.0, 4.0, 1.0], [1.0, -4.0, -1.0], [1.0, 1.0, 0.5]]))
