"""Points of the forward process, drawn by name: which images share the times and the noise is all that methods differ in."""

from collections.abc import Callable, Hashable
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.seeds import generator
from vgrpo.core.types import Probes

Share = Literal["group", "batch", "none"]
DrawTimes = Callable[[torch.Generator], Tensor]


def draw_probes(
    x_0: Tensor,
    group: Tensor,
    *seed: int | str,
    draw_times: DrawTimes,
    num_probes: int,
    times: Share,
    noise: Share,
    antithetic: bool = False,
) -> Probes:
    """K pairs (t, eps) per image of x_0 [B, *D] with group ids [B]; `draw_times(rng)` gives t [K].

    `times` and `noise` say whose images share them: those of one group, of the whole iteration, or none. `seed` names the
    draw, and the result for a group does not depend on which other groups are present. With `antithetic`, every second pair
    has the opposite noise of the one before it.
    """
    keys = list(zip(share_keys(group, times), share_keys(group, noise), strict=True))
    sets: dict[Hashable, int] = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    distinct_times = {key: draw_times(generator(*seed, "times", key)) for key in dict.fromkeys(t for t, _ in keys)}
    shape = (num_probes, *x_0.shape[1:])
    distinct_noise = {
        key: torch.randn(shape, generator=generator(*seed, "noise", key)) for key in dict.fromkeys(e for _, e in keys)
    }
    if antithetic:
        for eps in distinct_noise.values():
            eps[1::2] = -eps[: num_probes // 2 * 2 : 2]
    return Probes(
        x_0=x_0.float(),
        pair=torch.tensor([sets[key] for key in keys], device=x_0.device),
        t=torch.stack([distinct_times[t] for t, _ in dict.fromkeys(keys)]).float().to(x_0.device),
        eps=torch.stack([distinct_noise[e] for _, e in dict.fromkeys(keys)]).to(x_0.device),
    )


def share_keys(group: Tensor, share: Share) -> list[str]:
    """For every image a name that it has in common with those that share a draw with it."""
    if share == "batch":
        return ["all"] * len(group)
    if share == "group":
        return [str(key) for key in group.tolist()]
    seen: dict[int, int] = {}
    keys = []
    for key in group.tolist():
        keys.append(f"{key}.{seen.get(key, 0)}")
        seen[key] = seen.get(key, 0) + 1
    return keys


def stratified(num_probes: int, num_timesteps: int, shift: float = 1.0, last: float = 0.0) -> DrawTimes:
    """One t from each of `num_probes` equal chunks of the schedule's points above t = `last`."""
    times = flow.schedule(num_timesteps, shift)
    times = times[times > last]
    edges = torch.arange(num_probes + 1) * len(times) // num_probes

    def draw(rng: torch.Generator) -> Tensor:
        u = torch.rand(num_probes, generator=rng, dtype=torch.float64)
        return times[edges[:-1] + (u * edges.diff()).long()]  # chunk j holds the points from edges[j] up to edges[j + 1]

    return draw


def independent(num_probes: int, num_timesteps: int, shift: float = 1.0) -> DrawTimes:
    """`num_probes` points of the schedule, each drawn alone."""
    times = flow.schedule(num_timesteps, shift)[:-1]  # t = 0 adds no noise and has nothing to predict

    def draw(rng: torch.Generator) -> Tensor:
        return times[(torch.rand(num_probes, generator=rng, dtype=torch.float64) * len(times)).long()]

    return draw


def noisy(num_probes: int, num_timesteps: int, shift: float = 1.0) -> DrawTimes:
    """`num_probes` points of the schedule, each drawn alone, with a density that is proportional to t before the shift."""
    times = flow.schedule(num_timesteps, shift)[:-1]
    share = flow.schedule(num_timesteps)[:-1].cumsum(0)

    def draw(rng: torch.Generator) -> Tensor:
        u = torch.rand(num_probes, generator=rng, dtype=torch.float64) * share[-1]
        return times[torch.searchsorted(share, u, right=True).clamp(max=len(times) - 1)]

    return draw


def first_steps(num_probes: int, num_timesteps: int, shift: float = 1.0) -> DrawTimes:
    """The first `num_probes` points of a solver's schedule, from t = 1 down."""
    return lambda rng: flow.schedule(num_timesteps, shift)[:num_probes]
