"""Random batches for an algorithm, the same in fp64, and CRD's published formula."""

import numpy as np
import torch

from vgrpo.core import flow
from vgrpo.core.types import Batch
from vgrpo.objectives.path.temp_flow_grpo import WeightedTrajectory

SHAPE = (3, 2, 2)
GROUP = torch.tensor([0, 0, 1, 1, 1, 1])


def random_path(seed=0):
    """Five steps of six images, as a sampler of eight steps leaves them."""
    rng = torch.Generator().manual_seed(seed)
    times = flow.schedule(8).float()[:6].expand(6, -1)
    x = torch.randn(6, 5, *SHAPE, generator=rng)
    x_next = x + 0.3 * torch.randn(x.shape, generator=rng)
    return WeightedTrajectory(x=x, x_next=x_next, t=times[:, :-1], t_next=times[:, 1:], v=x, weight=torch.ones(6, 5))


def make(objective, seed=0, spread=0.1):
    """A batch, velocities to differentiate, and velocities of the old and the reference weights."""
    torch.manual_seed(seed)
    probes = objective.points(torch.randn(6, *SHAPE), GROUP, "run", seed, trajectory=random_path(seed))
    v = torch.randn(6, probes.times().shape[1], *SHAPE)
    base = {name: v + spread * torch.randn_like(v) for name in ("old", "ref")}
    batch = Batch(points=probes, cond=None, advantage=torch.randn(6), group=GROUP, valid=torch.ones(6, dtype=torch.bool))
    return batch, v.requires_grad_(), base


def numbers(batch, v, base):
    """Everything as fp64 numpy: x_t, t, eps, x_0 [6, K, D] (t [6, K]) and the three velocities."""
    probes = batch.points

    def plain(x):
        return x.detach().double().flatten(2).numpy()

    eps, t = plain(probes.noise()), probes.times().double().numpy()
    x_0 = np.repeat(probes.x_0.double().flatten(1).numpy()[:, None], eps.shape[1], 1)
    x_t = np.empty_like(eps)
    for i, k in np.ndindex(t.shape):
        x_t[i, k] = (1 - t[i, k]) * x_0[i, k] + t[i, k] * eps[i, k]
    return x_t, t, eps, x_0, plain(v), plain(base["old"]), plain(base["ref"])


def crd(o, a, x_t, t, eps, x_0, v, old, ref):
    implicit, external = [], [min(max(x / 10 + 0.5, 0), 1) for x in a]
    for i in range(len(a)):
        gain = 0.0
        for k in range(t.shape[1]):
            u = eps[i, k] - x_0[i, k]
            new, before = (np.mean((w - u) ** 2) / max(np.mean(abs(w - u)), 1e-5) for w in (v[i, k], old[i, k]))
            gain -= (new - before) / t.shape[1]
        implicit.append(gain)
    losses = np.zeros(len(a))
    signs = [0] if o.centering == "uniform" else [1, -1]
    for sign in signs:
        weight = np.exp([sign * r / o.temperature for r in external])
        weight /= weight.sum()
        for i in range(len(a)):
            d = o.beta * (implicit[i] - weight @ implicit) - (external[i] - weight @ external)
            losses[i] += 5 / o.beta * d**2 / len(signs)
    return [losses[i] + o.kl_weight * np.mean((v[i] - ref[i]) ** 2) for i in range(len(a))]


def brightness(images, prompts):
    return images.mean((1, 2, 3))
