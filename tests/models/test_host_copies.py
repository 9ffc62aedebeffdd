"""What a solver's step sends from the host: nothing, since a GPU's queue would run dry while the host waits."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import PROMPTS, tiny_pipeline
from torch.utils._python_dispatch import TorchDispatchMode

from vgrpo.core import flow
from vgrpo.models.loading import make_policy
from vgrpo.objectives import OBJECTIVES, PathObjective
from vgrpo.sampling.draw import all_noise, draw_latents

KINDS = {"sd3": (tiny_pipeline, 64), "sdxl": (pipelines.sdxl, 16), "sd15": (pipelines.stable_diffusion, 16)}


class FromHost(TorchDispatchMode):
    """Counts tensors made of numbers that the host holds."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.lift_fresh.default
        return func(*args, **(kwargs or {}))


def sent(draw):
    draw(2)
    counts = []
    for steps in (2, 4):
        with FromHost() as host:
            draw(steps)
        counts.append(host.count)
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_more_steps_send_no_more(kind):
    make, pixels = KINDS[kind]
    policy = make_policy(make(), max_sequence_length=8, resolution=pixels)
    noise = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    cond = policy.encode(PROMPTS[:2])

    def solve(steps):
        draw_latents(policy, cond, noise, solver="dpm_solver_2m", times=flow.schedule(steps), guidance=2.0)

    few, many = sent(solve)
    assert few == many


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if issubclass(kind, PathObjective)])
def test_more_stochastic_steps_send_no_more(name):
    sampler = OBJECTIVES[name]().drawing.step_sampler(0, 0)
    noise = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    counts = []
    for steps in (10, 14):
        step_noise = torch.randn(8, steps, 1, 2, 2, generator=torch.Generator().manual_seed(1))
        with FromHost() as host:
            sampler(lambda x, *_: 0.1 * x, noise, flow.schedule(steps), step_noise)
        counts.append(host.count)
    assert counts[0] == counts[1]


def test_noise_of_many_images_is_that_of_each():
    policy = make_policy(tiny_pipeline(), max_sequence_length=0)
    seeds = [(3, "noise", index) for index in range(3)]
    together = all_noise(policy, seeds)
    assert together.shape == (3, *policy.latent_shape)
    assert all(torch.equal(row, all_noise(policy, [seed])[0]) for row, seed in zip(together, seeds, strict=True))
