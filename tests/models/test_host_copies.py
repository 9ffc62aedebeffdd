"""What a solver's step sends from the host: nothing, since a GPU's queue would run dry while the host waits."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import PROMPTS, tiny_pipeline
from torch.utils._python_dispatch import TorchDispatchMode

from vgrpo.core import flow
from vgrpo.models.loading import make_policy
from vgrpo.objectives import FlowGRPO
from vgrpo.sampling.draw import _velocity, draw_latents

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

    @torch.no_grad()
    def walk(steps):
        sampler = FlowGRPO().drawing.step_sampler(0, 0)
        sampler(_velocity(policy, cond, 2.0), noise, flow.schedule(steps), torch.zeros(2, steps, *noise.shape[1:]))

    for draw in (solve, walk):
        few, many = sent(draw)
        assert few == many
