"""Pictures from a policy: any number with given noise, or groups with named noise to train on.

Dimensions: B images, D latent dimensions, N solver steps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.sde import StepSampler
from vgrpo.core.seeds import Seed, generator
from vgrpo.core.solvers import SAMPLERS, Solver, num_evaluations
from vgrpo.core.types import Cond, Prompt, Rollout, Trajectory
from vgrpo.models.drawing import for_drawing
from vgrpo.models.policy import Policy
from vgrpo.sampling.settings import Sampling

Between = Callable[[int], None]
"""What a caller does before a batch of so many images: stop, or tell how far it is."""


Drawn = Callable[[Tensor, list[Prompt]], None]
"""What a caller does with a batch of finished images [B, 3, H, W] and their prompts, before the next is drawn."""


def nothing(num_images: int) -> None:
    return


def unseen(images: Tensor, prompts: list[Prompt]) -> None:
    return


def named_noise(policy: Policy, *seed: int | str) -> Tensor:
    """One image's starting noise [*D]."""
    return all_noise(policy, [seed])[0]


def all_noise(policy: Policy, seeds: Iterable[tuple[int | str, ...]]) -> Tensor:
    """The starting noise [B, *D] of images by their names, in one copy to the device."""
    return torch.stack([torch.randn(policy.latent_shape, generator=generator(*seed)) for seed in seeds]).to(policy.device)


def member_name(seed: Seed, group: int, index: int) -> tuple[int | str, ...]:
    """The name of the starting noise with this index of a group; `seed` names the iteration."""
    return (*seed, "noise", group, index)


@torch.no_grad()
def draw_latents(policy: Policy, cond: Cond, noise: Tensor, *, solver: Solver, times: Tensor, guidance: float) -> Tensor:
    """Final latents [B, *D] from noise [B, *D] by a solver, at N + 1 descending times."""
    return SAMPLERS[solver](_velocity(policy, cond, guidance), noise, times)


@torch.no_grad()
def draw_images(
    policy: Policy,
    prompts: list[Prompt],
    noise: Tensor,
    sampling: Sampling,
    between: Between = nothing,
    drawn: Drawn = unseen,
) -> tuple[Tensor, Tensor]:
    """Latents [B, *D] and images [B, 3, H, W] in [0, 1], on the CPU, for B prompts and their noise [B, *D]. `between` is called
    before every batch, and `drawn` after it."""
    cond = policy.encode_prompts(prompts)
    times = flow.schedule(sampling.num_steps, sampling.shift)
    latents, images = [], []
    with for_drawing(policy):
        for rows in _slices(len(prompts), sampling.batch_size):
            between(len(noise[rows]))
            x_0 = draw_latents(policy, cond[rows], noise[rows], solver=sampling.solver, times=times, guidance=sampling.guidance)
            latents.append(x_0)
            images.append(policy.decode(x_0).cpu())  # an iteration's would fill gigabytes of a GPU
            drawn(images[-1], prompts[rows])
    return torch.cat(latents), torch.cat(images)


def draw_groups(
    policy: Policy,
    prompts: list[Prompt],
    *seed: int | str,
    group_size: int,
    sampling: Sampling,
    groups: Sequence[int] | None = None,
    step_sampler: StepSampler | None = None,
    initial_noise: Callable[[int], int] = lambda member: member,
    between: Between = nothing,
    drawn: Drawn = unseen,
) -> Rollout:
    """`group_size` images of every prompt, or of those that `groups` numbers.

    The noise of an image is named by `seed`, its group's number and `initial_noise` of its place there, so it does not depend
    on which other groups are drawn here. A `step_sampler` takes the solver's place and keeps its stochastic steps.
    """
    groups = range(len(prompts)) if groups is None else groups
    rows = [(group, member) for group in groups for member in range(group_size)]
    noise = all_noise(policy, [member_name(seed, g, initial_noise(m)) for g, m in rows])
    repeated = [prompts[group] for group, _ in rows]
    num_steps, trajectory = sampling.num_steps, None
    if step_sampler is None:
        latents, images = draw_images(policy, repeated, noise, sampling, between, drawn)
        nfe: float = num_evaluations(sampling.solver, num_steps)
    else:
        shape = (num_steps, *noise.shape[1:])
        steps = torch.stack([torch.randn(shape, generator=generator(*seed, "steps", g, m)) for g, m in rows])
        walk = _Walk(step_sampler, steps.to(noise.device))
        latents, images, trajectory = _draw_trajectories(policy, repeated, noise, walk, sampling, between, drawn)
        nfe = step_sampler.num_evaluations(num_steps)
    return Rollout(
        prompts=repeated,
        group=torch.tensor([group for group, _ in rows], device=latents.device),
        latents=latents,
        cond=policy.encode_prompts(repeated),
        images=images,
        num_groups=len(prompts),
        nfe=nfe * policy.num_branches(sampling.guidance),
        trajectory=trajectory,
    )


class _Walk(NamedTuple):
    sampler: StepSampler
    noise: Tensor  # [B, N, *D] of every step


@torch.no_grad()
def _draw_trajectories(
    policy: Policy, prompts: list[Prompt], noise: Tensor, walk: _Walk, sampling: Sampling, between: Between, drawn: Drawn
) -> tuple[Tensor, Tensor, Trajectory]:
    """Latents, images and stochastic steps. The update takes the likelihood of a step under the old weights from a forward of
    its own, which rounds as training does, so here adapters may be merged."""
    cond = policy.encode_prompts(prompts)
    times = flow.schedule(sampling.num_steps, sampling.shift)
    latents, images, parts = [], [], []
    with for_drawing(policy):
        for rows in _slices(len(prompts), sampling.batch_size):
            between(len(noise[rows]))
            x_0, part = walk.sampler(_velocity(policy, cond[rows], sampling.guidance), noise[rows], times, walk.noise[rows])
            latents.append(x_0)
            images.append(policy.decode(x_0).cpu())
            parts.append(part)
            drawn(images[-1], prompts[rows])
    return torch.cat(latents), torch.cat(images), parts[0].cat(parts)


def decode(policy: Policy, latents: Tensor, batch_size: int | None) -> Tensor:
    """Images [B, 3, H, W], on the CPU, of latents [B, *D], so many at a time."""
    return torch.cat([policy.decode(latents[rows]).cpu() for rows in _slices(len(latents), batch_size)])


def _velocity(policy: Policy, cond: Cond, guidance: float) -> Callable[..., Tensor]:
    """v [M, *D] of x [M, *D] at one time; `rows` picks the texts where a sampler walks with a part of the batch."""

    def velocity(x: Tensor, t: float, rows: slice | Tensor = slice(None)) -> Tensor:
        return policy.velocity(x, x.new_full((len(x),), t), cond[rows], guidance)

    return velocity


def _slices(count: int, size: int | None) -> Iterator[slice]:
    size = size or max(1, count)
    return (slice(start, start + size) for start in range(0, count, size))
