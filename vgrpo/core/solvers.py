"""Solvers of d x / d t = v(x, t) from noise (t = 1) to data (t = 0), as plain functions.

Each takes `velocity(x [B, *D], t float) -> v [B, *D]`, the start `x` [B, *D], and descending times [N + 1] (see
`flow.schedule`), and returns the end point. The state is kept in fp32 whatever the network computes in.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor

from vgrpo.core.flow import predict_x_0

Velocity = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Velocity, Tensor, Tensor], Tensor]
Solver = Literal["euler", "heun", "dpm_solver_2m"]


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """First order, one evaluation per step: N evaluations."""
    for t, t_next in _steps(times):
        x = x + (t_next - t) * velocity(x, t).float()
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Second order (EDM, arXiv:2206.00364, alg. 1): two evaluations per step, one in the last; 2 N - 1 in all."""
    for t, t_next in _steps(times):
        v = velocity(x, t).float()
        x_next = x + (t_next - t) * v
        if t_next > 0:
            v = (v + velocity(x_next, t_next).float()) / 2
            x_next = x + (t_next - t) * v
        x = x_next
    return x


def dpm_solver_2m(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """DPM-Solver++(2M) (arXiv:2211.01095, alg. 2): second order from one evaluation per step, N evaluations.

    With alpha = 1 - t, sigma = t and lambda = log(alpha / sigma), the step extrapolates the x_0 predictions linearly in
    lambda. The ends have infinite lambda, so the first step and the last are of first order, which there is exact in lambda.
    """
    x_0_last, h_last = None, math.inf
    moments = times.to(x)  # on the device once: a new tensor at every step would make the host wait for it
    for (t, t_next), moment in zip(_steps(times), moments, strict=False):
        x_0 = predict_x_0(x, velocity(x, t).float(), moment)
        h = _log_snr(t_next) - _log_snr(t)
        estimate = x_0
        if x_0_last is not None and math.isfinite(h) and math.isfinite(h_last):
            estimate = x_0 + h / (2 * h_last) * (x_0 - x_0_last)
        x = t_next / t * x + ((1 - t_next) - t_next / t * (1 - t)) * estimate
        x_0_last, h_last = x_0, h
    return x


def _log_snr(t: float) -> float:
    if t in (0.0, 1.0):
        return math.inf if t == 0 else -math.inf
    return math.log((1 - t) / t)


def _steps(times: Tensor) -> list[tuple[float, float]]:
    values = times.tolist()
    return list(pairwise(values))


SAMPLERS: dict[Solver, Sampler] = {"euler": euler, "heun": heun, "dpm_solver_2m": dpm_solver_2m}


def num_evaluations(solver: Solver, num_steps: int) -> int:
    """Network evaluations per image and branch."""
    return 2 * num_steps - 1 if solver == "heun" else num_steps
