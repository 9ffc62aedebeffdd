"""Schedulers that are not what a family ships: supported where the network's convention is known, else refused by name."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from helpers import pipelines

from vgrpo.models.loading import make_policy
from vgrpo.sampling.draw import draw_latents


@pytest.fixture(scope="module")
def unet():
    return pipelines.stable_diffusion_v()


@pytest.fixture(scope="module")
def flow():
    return pipelines.z_image()


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (EDMEulerScheduler(), "the scheduler is a EDMEulerScheduler: a U-Net trained with EDM's"),
        (FlowMatchEulerDiscreteScheduler(), "the scheduler is a FlowMatchEulerDiscreteScheduler: a U-Net"),
        (
            UniPCMultistepScheduler(prediction_type="flow_prediction"),
            "prediction_type is flow_prediction: a U-Net must predict",
        ),
        (DDIMScheduler(rescale_betas_zero_snr=True), r"pure noise \(zero terminal SNR\), where a prediction of epsilon"),
        (EulerDiscreteScheduler(rescale_betas_zero_snr=True), r"pure noise \(zero terminal SNR\), where a prediction of epsi"),
    ],
)
def test_a_unets_scheduler_of_another_kind_is_refused(unet, scheduler, message):
    unet.register_modules(scheduler=scheduler)
    with pytest.raises(ValueError, match=message):
        make_policy(unet, resolution=16)


def test_a_flows_scheduler_of_another_kind_is_refused(flow):
    flow.register_modules(scheduler=DDIMScheduler())
    with pytest.raises(ValueError, match="the scheduler is a DDIMScheduler: this network was trained on a flow"):
        make_policy(flow, resolution=16)
    flow.register_modules(scheduler=UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"))
    assert make_policy(flow, resolution=16)


def test_zero_terminal_snr_draws_the_pipelines_own_images(unet):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    own = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    unet.register_modules(scheduler=DDIMScheduler(**config, **own))
    policy = make_policy(unet, resolution=16)
    noise = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    settings = {"height": 16, "width": 16, "num_inference_steps": 4, "guidance_scale": 1.0, "output_type": "pt"}
    theirs = unet(prompt=["a red heart"], latents=noise, **settings).images
    bar = unet.scheduler.alphas_cumprod[unet.scheduler.timesteps].double()
    a, b = bar.sqrt(), (1 - bar).sqrt()
    assert a[0] == 0
    times = torch.cat([b / (a + b), torch.zeros(1, dtype=torch.float64)])
    x_0 = draw_latents(policy, policy.encode(["a red heart"]), noise, solver="euler", times=times, guidance=1.0)
    assert torch.allclose(policy.decode(x_0), theirs.float(), atol=2e-3)
