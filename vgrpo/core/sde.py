"""Stochastic samplers whose every step has a likelihood: what Flow-GRPO and its relatives train on.

A kernel turns a state, its velocity and two times into the mean and deviation of the next state. `sample_path` walks with it
inside a window of steps, deterministically elsewhere, and keeps the steps of the window.

Dimensions: B images, S stochastic steps, D latent dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vgrpo.core.flow import expand, predict_eps, predict_x_0
from vgrpo.core.solvers import Velocity, dpm_solver_2m, euler
from vgrpo.core.types import Trajectory


class Kernel(Protocol):
    """One stochastic step of the sampler."""

    def __call__(self, x: Tensor, v: Tensor, t: Tensor, t_next: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., *D] and deviation [..., 1...] of the next state from x, v [..., *D] and times [...]."""

    def log_prob(self, x_next: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Log-likelihood of a step, the mean over dimensions: [B, S] from [B, S, *D]."""


def gaussian_log_prob(x_next: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    density = -(x_next - mean).square() / (2 * std.square()) - std.log() - math.log(2 * math.pi) / 2
    return density.flatten(2).mean(2)


@dataclass(frozen=True, kw_only=True)
class FlowKernel:
    """Flow-GRPO (arXiv:2505.05470, eq. 9): the SDE with the flow's marginals and s = a sqrt(t / (1 - t))."""

    noise: float = 0.7

    def scale(self, t: Tensor, t_next: Tensor) -> Tensor:
        """s; at t = 1 the denominator takes the next time."""
        return self.noise * (t / (1 - torch.where(t >= 1, t_next, t))).sqrt()

    def __call__(self, x: Tensor, v: Tensor, t: Tensor, t_next: Tensor) -> tuple[Tensor, Tensor]:
        s, dt = expand(self.scale(t, t_next), x), expand(t_next - t, x)
        t = expand(t, x)
        mean = x * (1 + s**2 / (2 * t) * dt) + v * (1 + s**2 * (1 - t) / (2 * t)) * dt
        return mean, s * (-dt).sqrt()

    log_prob = staticmethod(gaussian_log_prob)


@dataclass(frozen=True, kw_only=True)
class CpsKernel:
    """Coefficients-preserving sampling (arXiv:2509.05952): a step that keeps the flow's own noise level exactly."""

    noise: float = 0.8

    def __call__(self, x: Tensor, v: Tensor, t: Tensor, t_next: Tensor) -> tuple[Tensor, Tensor]:
        t, t_next = expand(t, x), expand(t_next, x)
        std = t_next * math.sin(self.noise * math.pi / 2)
        x_0, eps = predict_x_0(x, v, t), predict_eps(x, v, t)
        return (1 - t_next) * x_0 + (t_next**2 - std**2).sqrt() * eps, std

    @staticmethod
    def log_prob(x_next: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return -(x_next - mean).square().flatten(2).mean(2)


@dataclass(frozen=True, kw_only=True)
class DdimKernel:
    """DDIM (arXiv:2010.02502, eq. 12 and 16) with eta = `noise`; 1 is DDPM's ancestral step.

    DDIM lives on states a x_0 + b eps with a^2 + b^2 = 1. The flow's state at t is that state divided by a + b, with
    t = b / (a + b), so the step is taken there and scaled back.
    """

    noise: float = 1.0

    def __call__(self, x: Tensor, v: Tensor, t: Tensor, t_next: Tensor) -> tuple[Tensor, Tensor]:
        t, t_next = expand(t, x), expand(t_next, x)
        (a, b), (a_next, b_next) = _variance_preserving(t), _variance_preserving(t_next)
        std = self.noise * b_next / b * (1 - (a / a_next) ** 2).clamp(min=0).sqrt()
        mean = a_next * predict_x_0(x, v, t) + (b_next**2 - std**2).clamp(min=0).sqrt() * predict_eps(x, v, t)
        scale = a_next + b_next
        return mean / scale, std / scale

    log_prob = staticmethod(gaussian_log_prob)


def _variance_preserving(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise of the variance-preserving process with the flow's signal-to-noise ratio at t."""
    norm = ((1 - t) ** 2 + t**2).sqrt()
    return (1 - t) / norm, t / norm


@dataclass(frozen=True, kw_only=True)
class DanceKernel:
    """DanceGRPO (arXiv:2505.07818): the reverse SDE with a constant diffusion eta."""

    noise: float = 0.3

    def __call__(self, x: Tensor, v: Tensor, t: Tensor, t_next: Tensor) -> tuple[Tensor, Tensor]:
        t, dt = expand(t, x), expand(t_next - t, x)
        score = -(x - (1 - t) * predict_x_0(x, v, t)) / t**2
        return x + v * dt - self.noise**2 / 2 * score * dt, self.noise * (-dt).sqrt()

    log_prob = staticmethod(gaussian_log_prob)


class RowVelocity(Protocol):
    """v [M, *D] at x [M, *D] and one time, for the given rows of the batch (all, unless told)."""

    def __call__(self, x: Tensor, t: float, rows: slice | Tensor = ..., /) -> Tensor: ...


class StepSampler(Protocol):
    """How an algorithm draws its rollouts when it needs their steps."""

    def __call__(self, velocity: RowVelocity, x: Tensor, times: Tensor, noise: Tensor, /) -> tuple[Tensor, Trajectory]:
        """Final latents [B, *D] and steps, from noise x [B, *D], N + 1 times and step noise [B, N, *D]."""

    def num_evaluations(self, num_steps: int) -> float:
        """Network evaluations per image and branch."""


def all_but_last(num_steps: int) -> range:
    """The window of samplers whose last step is deterministic, so that the image is the one the model expects."""
    return range(max(1, num_steps - 1))


@dataclass(frozen=True, kw_only=True)
class PathSampler:
    """Stochastic inside a window of steps, deterministic elsewhere."""

    kernel: Kernel
    window: Callable[[int], range]
    """Which of N steps are stochastic."""
    second_order_after: int | None = None
    """DPM-Solver++ 2M with so many steps after the window, instead of Euler with the rest of the schedule."""

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, Trajectory]:
        """Final latents [B, *D] and the window's steps."""
        window, moments = self.window(len(times) - 1), times.float().to(x.device)
        x = euler(velocity, x, times[: window.start + 1])
        states, ends, answers = [], [], []
        for step in window:
            t, t_next = (moments[i].expand(len(x)) for i in (step, step + 1))
            v = velocity(x, float(times[step]))
            mean, std = self.kernel(x, v.float(), t, t_next)
            states.append(x)
            answers.append(v)
            x = mean + std * noise[:, step]
            ends.append(x)
        rest = times[window.stop :]
        if self.second_order_after is not None and len(rest) > 2:
            rest = _resample(rest, self.second_order_after)
            final = dpm_solver_2m(velocity, x, rest)
        else:
            final = euler(velocity, x, rest)
        inside = moments[window.start : window.stop + 1].expand(len(x), -1)
        x, x_next, v = (torch.stack(steps, 1) for steps in (states, ends, answers))
        return final, Trajectory(x=x, x_next=x_next, t=inside[:, :-1], t_next=inside[:, 1:], v=v)

    def num_evaluations(self, num_steps: int) -> int:
        left = num_steps - self.window(num_steps).stop
        if self.second_order_after is not None and left > 1:
            left = min(left, self.second_order_after)
        return self.window(num_steps).stop + left


def _resample(times: Tensor, num_steps: int) -> Tensor:
    """At most `num_steps` of the intervals of descending times, evenly by index, the ends kept."""
    if len(times) - 1 <= num_steps:
        return times
    index = torch.linspace(0, len(times) - 1, num_steps + 1).round().long()
    return times[index]
