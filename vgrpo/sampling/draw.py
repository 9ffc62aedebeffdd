"""Drawing images: for training (groups with named noise), for evaluation and for `vgrpo sample`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.sde import StepSampler
from vgrpo.core.seeds import generator
from vgrpo.core.solvers import SAMPLERS, Solver, num_evaluations
from vgrpo.core.types import Cond, Path, Prompt, Rollout
from vgrpo.models.loading import Policy
from vgrpo.models.weight_sets import merged


@torch.no_grad()
def draw_latents(policy: Policy, cond: Cond, noise: Tensor, *, solver: Solver, times: Tensor, guidance: float) -> Tensor:
    """Final latents [B, *D] from noise [B, *D] by any solver."""

    def velocity(x: Tensor, t: float) -> Tensor:
        return policy.velocity(x, x.new_full((len(x),), t), cond, guidance)

    return SAMPLERS[solver](velocity, noise, times)


def named_noise(policy: Policy, *seed: int | str) -> Tensor:
    """One image's starting noise [*D]."""
    return torch.randn(policy.latent_shape, generator=generator(*seed)).to(policy.device)


def draw_images(
    policy: Policy,
    prompts: list[Prompt],
    noise: Tensor,
    *,
    solver: Solver,
    num_steps: int,
    guidance: float,
    shift: float = 1.0,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents [B, *D] and images [B, 3, H, W] in [0, 1] for B prompts and their noise [B, *D]."""
    cond = policy.encode([prompt.text for prompt in prompts])
    times = flow.schedule(num_steps, shift)
    latents, images = [], []
    size = batch_size or len(prompts)
    with merged(policy.module):
        for start in range(0, len(prompts), size):
            rows = slice(start, start + size)
            latents.append(draw_latents(policy, cond[rows], noise[rows], solver=solver, times=times, guidance=guidance))
            images.append(policy.decode(latents[-1]))
    return torch.cat(latents), torch.cat(images)


def draw_groups(
    policy: Policy,
    prompts: list[Prompt],
    *seed: int | str,
    group_size: int,
    solver: Solver,
    num_steps: int,
    guidance: float,
    shift: float,
    batch_size: int | None,
    path_sampler: StepSampler | None = None,
    initial_noise: Callable[[int], int] = lambda member: member,
) -> Rollout:
    """`group_size` images of every prompt. The noise of an image is named by `seed`, its group and `initial_noise` of
    its place there. A `path_sampler` takes the solver's place and keeps its stochastic steps."""
    rows = [(group, member) for group in range(len(prompts)) for member in range(group_size)]
    noise = torch.stack([named_noise(policy, *seed, "noise", g, initial_noise(m)) for g, m in rows])
    repeated = [prompts[group] for group, _ in rows]
    kind: dict[str, Any] = {"guidance": guidance, "num_steps": num_steps, "shift": shift, "batch_size": batch_size}
    if path_sampler is None:
        (latents, images), path = draw_images(policy, repeated, noise, solver=solver, **kind), None
    else:
        shape = (num_steps, *noise.shape[1:])
        steps = torch.stack([torch.randn(shape, generator=generator(*seed, "steps", g, m)) for g, m in rows])
        latents, images, path = _draw_paths(policy, repeated, noise, steps.to(noise.device), path_sampler, **kind)
    return Rollout(
        prompts=repeated,
        group=torch.tensor([group for group, _ in rows], device=latents.device),
        latents=latents,
        cond=policy.encode([prompt.text for prompt in repeated]),
        images=images,
        num_groups=len(prompts),
        nfe=(path_sampler.num_evaluations(num_steps) if path_sampler else num_evaluations(solver, num_steps))
        * policy.num_branches(guidance),
        path=path,
    )


@torch.no_grad()
def _draw_paths(
    policy: Policy,
    prompts: list[Prompt],
    noise: Tensor,
    step_noise: Tensor,
    sampler: StepSampler,
    *,
    num_steps: int,
    guidance: float,
    shift: float,
    batch_size: int | None,
) -> tuple[Tensor, Tensor, Path]:
    """Latents, images and stochastic steps. The update takes the likelihood of a step under the old weights from a forward of
    its own, which rounds as training does, so here adapters may be merged."""
    cond = policy.encode([prompt.text for prompt in prompts])
    size = batch_size or len(prompts)
    parts = []
    with merged(policy.module):
        for start in range(0, len(prompts), size):
            part = cond[start : start + size]

            def velocity(x: Tensor, t: float, rows: slice = slice(None), part: Cond = part) -> Tensor:
                return policy.velocity(x, x.new_full((len(x),), t), part[rows], guidance)

            chunk = slice(start, start + size)
            parts.append(sampler(velocity, noise[chunk], flow.schedule(num_steps, shift), step_noise[chunk]))
    latents = torch.cat([x_0 for x_0, _ in parts])
    images = torch.cat([policy.decode(x_0) for x_0, _ in parts])
    paths = [path for _, path in parts]
    return latents, images, paths[0].cat(paths)
