"""The time convention, in the only place that knows it.

Rectified flow with t in [0, 1], t = 1 noise: `x_t = (1 - t) x_0 + t eps`, velocity `v = d x_t / d t = eps - x_0`.
Hence `x_0 = x_t - t v` and `eps = x_t + (1 - t) v`. Diffusers' integer timesteps are `1000 t`.
"""

import torch
from torch import Tensor

NUM_TRAIN_TIMESTEPS = 1000


def expand(t: Tensor, like: Tensor) -> Tensor:
    """Give `t` trailing axes of size 1 until it broadcasts against `like`."""
    return t.reshape(t.shape + (1,) * (like.dim() - t.dim()))


def interpolate(x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The noisy point x_t. `t` has the leading axes of the others."""
    t = expand(t, eps)
    return (1 - t) * x_0 + t * eps


def velocity_target(x_0: Tensor, eps: Tensor) -> Tensor:
    return eps - x_0


def predict_x_0(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    return x_t - expand(t, x_t) * v


def predict_eps(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    return x_t + (1 - expand(t, x_t)) * v


def to_timestep(t: Tensor) -> Tensor:
    """The number that diffusers' flow-matching networks take as their timestep."""
    return t * NUM_TRAIN_TIMESTEPS


def schedule(num_steps: int, shift: float = 1.0) -> Tensor:
    """Times from 1 to 0, [num_steps + 1] in fp64: uniform, then moved towards noise by `t -> s t / (1 + (s - 1) t)`
    (Stable Diffusion 3, arXiv:2403.03206, eq. 23).

    Raises ValueError if num_steps < 1 or shift <= 0.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps}: a schedule needs at least 1 step")
    if shift <= 0:
        raise ValueError(f"shift={shift}: the time shift must be above 0 (1 leaves the schedule uniform)")
    t = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift * t / (1 + (shift - 1) * t)
