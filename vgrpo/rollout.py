"""Drawing images: for training (groups with named noise), for evaluation and for `vgrpo sample`."""

import torch
from torch import Tensor

from vgrpo import flow
from vgrpo.models import Policy
from vgrpo.samplers import SAMPLERS, Solver, num_evaluations
from vgrpo.seeds import generator
from vgrpo.types import Cond, Prompt, Rollout
from vgrpo.weights import merged


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
) -> Rollout:
    """`group_size` images of every prompt. The noise of an image is named by `seed`, its group and its place in it."""
    rows = [(group, member) for group in range(len(prompts)) for member in range(group_size)]
    noise = torch.stack([named_noise(policy, *seed, "noise", group, member) for group, member in rows])
    repeated = [prompts[group] for group, _ in rows]
    latents, images = draw_images(
        policy,
        repeated,
        noise,
        solver=solver,
        num_steps=num_steps,
        guidance=guidance,
        shift=shift,
        batch_size=batch_size,
    )
    return Rollout(
        prompts=repeated,
        group=torch.tensor([group for group, _ in rows], device=latents.device),
        latents=latents,
        cond=policy.encode([prompt.text for prompt in repeated]),
        images=images,
        num_groups=len(prompts),
        nfe=num_evaluations(solver, num_steps) * (1 if guidance == 1 else 2),
    )
