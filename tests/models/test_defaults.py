"""What a model is drawn with where nothing is said: its own pipeline's steps and guidance, its scheduler's time shift."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from helpers import pipelines
from helpers.tiny import tiny_pipeline
from PIL import Image

from vgrpo import Prompt
from vgrpo.commands.main import main
from vgrpo.core import flow
from vgrpo.core.images import to_pil
from vgrpo.models.defaults import BUNDLED, Defaults, defaults_of, own_shift
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling

DYNAMIC = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


def turbo():
    pipeline = pipelines.z_image()
    pipeline.register_to_config(_name_or_path="Tongyi-MAI/Z-Image-Turbo")
    return pipeline


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (tiny_pipeline, Defaults(28, 1.0, 7.0)),
        (pipelines.stable_diffusion, Defaults(50, 1.0, 7.5)),
        (pipelines.sana, Defaults(20, 3.0, 4.5)),
        (pipelines.qwen_image, Defaults(50, 1.0, 4.0)),
        (pipelines.z_image, Defaults(50, 3.0, 6.0)),
        (turbo, Defaults(8, 3.0, 1.0)),
        (lambda: pipelines.flux2_klein(is_distilled=True), Defaults(4, 1.0, 1.0)),
        (lambda: load_pipeline("sprites"), BUNDLED),
    ],
)
def test_a_models_own_pipeline_says(make, expected):
    assert defaults_of(make_policy(make())) == expected


@pytest.mark.parametrize("make", [pipelines.flux, pipelines.flux2])
def test_the_dynamic_shift_is_that_of_the_pipelines_own_schedule(make):
    pipeline = make()
    pipeline.scheduler = DYNAMIC
    policy = make_policy(pipeline, max_sequence_length=24, resolution="32x16")
    size = {"height": 16, "width": 32, "max_sequence_length": 24}
    pipeline(prompt="a red heart", num_inference_steps=6, output_type="latent", **size)
    assert torch.allclose(flow.schedule(6, own_shift(policy, 6)), pipeline.scheduler.sigmas.double(), atol=1e-5)


def test_a_flow_shift_is_taken():
    pipeline = pipelines.wan()
    pipeline.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=5.0, prediction_type="flow_prediction")
    assert defaults_of(make_policy(pipeline, resolution=32)).shift == 5.0


def test_sample_draws_as_the_model_does_where_nothing_is_said(tmp_path):
    pipelines.flux(guidance_embeds=False).save_pretrained(tmp_path / "schnell")
    (tmp_path / "prompts.txt").write_text("a red heart\n")
    line = f"sample --model {tmp_path}/schnell --prompts {tmp_path}/prompts.txt --num-images 1 --output-dir {tmp_path}/out"
    assert main([*line.split(), *"--resolution 16 --max-sequence-length 24 --precision fp32 --solver euler".split()]) == 0
    policy = make_policy(load_pipeline(str(tmp_path / "schnell")), max_sequence_length=24, resolution=16)
    noise = named_noise(policy, 0, "sample", 0, 0)[None]
    _, images = draw_images(policy, [Prompt(text="a red heart")], noise, Sampling(solver="euler", num_steps=4))
    assert Image.open(tmp_path / "out/00000_00.png").tobytes() == to_pil(images[0]).tobytes()
