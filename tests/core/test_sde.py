"""Stochastic samplers and the algorithms that train on their steps, against the published formulas in fp64."""

import math

import numpy as np
import pytest
import torch
from helpers.formulas import make

from vgrpo.core import flow
from vgrpo.core.sde import CpsKernel, DanceKernel, DdimKernel, FlowKernel, PathSampler
from vgrpo.core.solvers import euler
from vgrpo.objectives import DDPO, BranchGRPO, DanceGRPO, FlowGRPO, MixGRPO, StepwiseGRPO

DATA_STD = 0.5


def gaussian_velocity(x, t):
    """The exact velocity where the data are N(0, DATA_STD^2)."""
    variance = (1 - t) ** 2 * DATA_STD**2 + t**2
    return x * (t - (1 - t) * DATA_STD**2) / variance


def everything(num_steps):
    return range(num_steps - 1)


@pytest.mark.parametrize("kernel", [FlowKernel(noise=0.7), DanceKernel(noise=0.5), DdimKernel(noise=1.0)])
def test_the_marginals_are_those_of_the_flow(kernel):
    torch.manual_seed(0)
    num_steps, num_images = 200, 40_000
    noise = torch.randn(num_images, num_steps, 1)
    times = flow.schedule(num_steps)
    x_0, path = PathSampler(kernel=kernel, window=everything)(gaussian_velocity, torch.randn(num_images, 1), times, noise)
    assert x_0.std().item() == pytest.approx(DATA_STD, rel=0.03)
    for step in (50, 100, 150):
        t = float(times[step])
        exact = math.sqrt((1 - t) ** 2 * DATA_STD**2 + t**2)
        assert path.x[:, step].std().item() == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    "kernel", [FlowKernel(noise=1e-6), DanceKernel(noise=1e-6), CpsKernel(noise=1e-6), DdimKernel(noise=1e-6)]
)
def test_without_noise_the_path_is_eulers(kernel):
    x, noise = torch.randn(4, 3), torch.randn(4, 6, 3)
    times = flow.schedule(6)
    got, _ = PathSampler(kernel=kernel, window=everything)(gaussian_velocity, x, times, noise)
    assert torch.allclose(got, euler(gaussian_velocity, x, times), atol=1e-4)


def test_cps_keeps_the_flows_share_of_noise():
    x, v = torch.randn(4, 3), torch.randn(4, 3)
    t, t_next = torch.full((4,), 0.6), torch.full((4,), 0.5)
    x_0, eps = x - 0.6 * v, x + 0.4 * v
    mean, std = CpsKernel(noise=0.8)(x, v, t, t_next)
    kept = (mean - 0.5 * x_0) / eps  # the coefficient of the predicted noise
    assert torch.allclose(kept**2 + std**2, torch.full((4, 3), 0.25), atol=1e-4)


def test_the_path_holds_the_windows_steps():
    sampler = PathSampler(kernel=FlowKernel(), window=lambda n: range(2, 5))
    x, noise = torch.randn(4, 3), torch.randn(4, 8, 3)
    times = flow.schedule(8)
    x_0, path = sampler(gaussian_velocity, x, times, noise)
    assert torch.allclose(path.x[:, 0], euler(gaussian_velocity, x, times[:3]))
    assert torch.equal(path.x[:, 1:], path.x_next[:, :-1])
    assert torch.allclose(x_0, euler(gaussian_velocity, path.x_next[:, -1], times[5:]))
    assert torch.allclose(path.t[0], times[2:5].float())
    assert torch.allclose(path.t_next[0], times[3:6].float())
    assert sampler.num_evaluations(8) == 8


def transition(kind, a, x, v, t, t_next):
    """Mean and deviation of one step, number by number."""
    dt = t_next - t
    if kind == "flow":
        s = a * math.sqrt(t / (1 - (t_next if t >= 1 else t)))
        mean = x * (1 + s * s / (2 * t) * dt) + v * (1 + s * s * (1 - t) / (2 * t)) * dt
        return mean, s * math.sqrt(-dt)
    if kind == "dance":
        x_0 = x - t * v
        score = -(x - (1 - t) * x_0) / t**2
        return x + v * dt - a * a / 2 * score * dt, a * math.sqrt(-dt)
    if kind == "ddim":
        # The variance-preserving state with the same x_0 and eps, from cumulated alphas as DDIM's authors write it.
        bar, bar_next = ((1 - u) ** 2 / ((1 - u) ** 2 + u**2) for u in (t, t_next))
        sigma = a * math.sqrt((1 - bar_next) / (1 - bar)) * math.sqrt(1 - bar / bar_next)
        x_0, eps = x - t * v, x + (1 - t) * v
        mean = math.sqrt(bar_next) * x_0 + math.sqrt(max(0, 1 - bar_next - sigma**2)) * eps
        to_flow = math.sqrt((1 - t_next) ** 2 + t_next**2)
        return mean * to_flow, sigma * to_flow
    std = t_next * math.sin(a * math.pi / 2)
    return (1 - t_next) * (x - t * v) + math.sqrt(t_next**2 - std**2) * (x + (1 - t) * v), std


def reference_loss(objective, kind, batch, v, base):
    path, losses = batch.points, []
    x, x_next = (value.double().flatten(2).numpy() for value in (path.x, path.x_next))
    w, old, ref = (value.detach().double().flatten(2).numpy() for value in (v, base["old"], base["ref"]))
    guard = getattr(objective, "guard", False)
    beta = getattr(objective, "kl_weight", 0.0)
    for i in range(6):
        a, total, penalty = float(batch.advantage[i]), 0.0, 0.0
        for k in range(x.shape[1]):
            t, t_next = float(path.t[i, k]), float(path.t_next[i, k])
            logs, means = [], []
            for velocity in (w, old, ref):
                mean, std = transition(kind, objective.noise, x[i, k], velocity[i, k], t, t_next)
                means.append(mean)
                d = x_next[i, k] - mean
                if kind == "cps":
                    logs.append(-np.mean(d**2))
                else:
                    logs.append(np.mean(-(d**2) / (2 * std**2) - math.log(std) - math.log(2 * math.pi) / 2))
            log_ratio, scale = logs[0] - logs[1], 1.0
            if guard:
                log_ratio = (log_ratio + np.mean((means[0] - means[1]) ** 2) / (2 * std**2)) * std
                scale = 1 / (t - t_next)
            ratio = math.exp(log_ratio)
            limited = min(max(ratio, 1 - objective.ratio_clip), 1 + objective.ratio_clip)
            total += max(-a * ratio, -a * limited) * scale / x.shape[1]
            penalty += np.mean((means[0] - means[2]) ** 2) / (2 * std**2 / (t - t_next)) / x.shape[1]
        losses.append(total + beta * penalty)
    return losses


@pytest.mark.parametrize(
    ("objective", "kind"),
    [
        (FlowGRPO(ratio_clip=0.05, kl_weight=1.0), "flow"),
        (FlowGRPO(kernel="cps", noise=0.8, ratio_clip=0.02, kl_weight=1.0), "cps"),
        (FlowGRPO(guard=True, ratio_clip=0.01, kl_weight=0.0), "flow"),
        (DanceGRPO(ratio_clip=0.3), "dance"),
        (MixGRPO(ratio_clip=0.05), "flow"),
        (BranchGRPO(ratio_clip=0.3), "dance"),
        (StepwiseGRPO(ratio_clip=0.02), "cps"),
        (DDPO(ratio_clip=0.05), "ddim"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_equals_the_published_formula(objective, kind, seed):
    batch, v, base = make(objective, seed, spread=0.3)
    loss, metrics = objective.loss(v, base, batch)
    expected = reference_loss(objective, kind, batch, v, base)
    assert np.allclose(loss.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert 0 < metrics["clip_share"].mean() < 1  # both sides of the clip are reached


def test_dance_trains_on_a_share_of_each_images_steps():
    batch, _, _ = make(DanceGRPO())
    times = batch.points.times()
    assert times.shape == (6, 3)  # 60% of five
    assert (times.diff(dim=1) < 0).all()
    assert len({tuple(row.tolist()) for row in times}) > 1


def test_mix_window_slides_and_begins_again():
    objective = MixGRPO(num_window_steps=4, iterations_per_window=25)
    starts = [objective.drawing.step_sampler(n, 0, "iteration", n).window(25).start for n in (0, 24, 25, 50, 20 * 25, 21 * 25)]
    assert starts == [0, 0, 1, 2, 20, 0]


def test_flash_ends_with_fewer_steps():
    plain, flash = (MixGRPO(flash=steps).drawing.step_sampler(0, 0, "iteration", 0) for steps in (None, 6))
    assert (plain.num_evaluations(25), flash.num_evaluations(25)) == (25, 10)
    calls = []

    def velocity(x, t):
        calls.append(t)
        return gaussian_velocity(x, t)

    x, noise = torch.randn(64, 3), torch.randn(64, 25, 3)
    x_fast, path = flash(velocity, x, flow.schedule(25), noise)
    assert len(calls) == 10
    t = float(path.t_next[0, -1])  # from here the flow only rescales a Gaussian
    exact = path.x_next[:, -1] * DATA_STD / math.sqrt((1 - t) ** 2 * DATA_STD**2 + t**2)
    assert torch.allclose(x_fast, exact, rtol=0.03)
    assert path.x.shape[1] == 4
