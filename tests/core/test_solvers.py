"""Solvers against a case with a known answer, and against diffusers."""

import math

import pytest
import torch
from helpers.tiny import PROMPTS

from vgrpo.core import flow
from vgrpo.core.solvers import SAMPLERS, dpm_solver_2m, euler, heun, num_evaluations
from vgrpo.models.loading import make_policy
from vgrpo.sampling.draw import draw_latents

MEAN, STD = 1.5, 0.4


def gaussian_velocity(x, t):
    """E[eps - x_0 | x_t] for x_0 ~ N(MEAN, STD^2)."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    centred = x - (1 - t) * MEAN
    x_0 = MEAN + (1 - t) * STD**2 / variance * centred
    eps = t / variance * centred
    return eps - x_0


def exact(x, start, end):
    """The flow from `start` to `end`: quantiles map to quantiles."""

    def std(t):
        return math.sqrt((1 - t) ** 2 * STD**2 + t**2)

    return (1 - end) * MEAN + std(end) * (x - (1 - start) * MEAN) / std(start)


def observed_order(sampler):
    """Order of convergence from halving the step, in fp64, between times at which log-SNR is finite."""
    x = torch.linspace(-1, 2, 7, dtype=torch.float64)
    errors = []
    for num_steps in (40, 80):
        times = 0.1 + 0.8 * flow.schedule(num_steps)
        end = sampler(lambda x, t: Double(gaussian_velocity(x, t)), x, times)
        errors.append((end - exact(x, 0.9, 0.1)).abs().max().item())
    return math.log2(errors[0] / errors[1])


class Double:
    """Keeps fp64 through a sampler's `.float()`, so that the order is not hidden by rounding."""

    def __init__(self, value):
        self.value = value

    def float(self):
        return self.value


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpm_solver_2m, 2)])
def test_order_of_convergence(sampler, order):
    assert abs(observed_order(sampler) - order) < 0.35


@pytest.mark.parametrize("solver", list(SAMPLERS))
def test_counts_its_evaluations(solver):
    calls = []

    def velocity(x, t):
        calls.append(t)
        return gaussian_velocity(x, t)

    end = SAMPLERS[solver](velocity, torch.randn(5), flow.schedule(12))
    assert len(calls) == num_evaluations(solver, 12)
    assert end.isfinite().all()


@pytest.mark.parametrize("solver", list(SAMPLERS))
def test_noise_becomes_the_gaussian(solver):
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    end = SAMPLERS[solver](gaussian_velocity, noise, flow.schedule(64))
    assert abs(end.mean() - MEAN) < 0.02
    assert abs(end.std() - STD) < 0.02


def test_flow_round_trips():
    x_0, eps = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    t = torch.rand(3, dtype=torch.float64)
    x_t, v = flow.interpolate(x_0, eps, t), flow.velocity_target(x_0, eps)
    assert torch.allclose(flow.predict_x_0(x_t, v, t), x_0)
    assert torch.allclose(flow.predict_eps(x_t, v, t), eps)
    nearby = flow.interpolate(x_0, eps, t + 1e-6)
    assert torch.allclose((nearby - x_t) / 1e-6, v, atol=1e-6)


def test_schedule_is_shifted_like_stable_diffusion_3(pipeline):
    times = flow.schedule(8, shift=3.0)
    assert times[0] == 1
    assert times[-1] == 0
    scheduler = type(pipeline.scheduler)(shift=3.0)
    scheduler.set_timesteps(sigmas=[1 - i / 8 for i in range(8)])
    assert torch.allclose(times, scheduler.sigmas.double(), atol=1e-6)


@pytest.mark.parametrize(("steps", "shift"), [(0, 1.0), (4, 0.0)])
def test_bad_schedules_are_refused(steps, shift):
    with pytest.raises(ValueError, match=r"num_steps=0|shift=0"):
        flow.schedule(steps, shift)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_euler_equals_the_diffusers_pipeline(pipeline, guidance):
    policy = make_policy(pipeline, max_sequence_length=4)
    noise = torch.randn(len(PROMPTS), *policy.latent_shape)
    theirs = pipeline(
        PROMPTS, latents=noise, num_inference_steps=6, guidance_scale=guidance, max_sequence_length=4, output_type="pt"
    ).images
    pipeline.scheduler.set_timesteps(6)
    cond = policy.encode(PROMPTS)
    ours = draw_latents(policy, cond, noise, solver="euler", times=pipeline.scheduler.sigmas, guidance=guidance)
    assert torch.allclose(policy.decode(ours), theirs, atol=1e-4)
    assert theirs.std() > 0.01
