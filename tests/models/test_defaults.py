"""What a model is drawn with where nothing is said: its own pipeline's steps and guidance, its scheduler's time shift."""

from dataclasses import replace

import pytest
import torch
import yaml
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from helpers import pipelines
from helpers.tiny import PROMPTS, red, tiny_pipeline
from PIL import Image

from vgrpo import Prompt, train
from vgrpo.commands.main import main
from vgrpo.core import flow
from vgrpo.core.images import to_pil
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.defaults import BUNDLED, Defaults, defaults_of, own_shift
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.objectives import FlowGRPO
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.training.settings.config import Config, RolloutConfig

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


def test_training_draws_as_the_model_does_and_goes_on_as_it_began(tmp_path, capsys):
    def pipeline(**config):
        made = pipelines.flux()
        made.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **config)
        return made

    config = Config(
        output_dir=tmp_path / "run",
        num_iterations=1,
        max_sequence_length=24,
        resolution=16,
        precision="fp32",
        device="cpu",
        rollout=RolloutConfig(num_prompts=2, group_size=2, num_steps=2),
        eval=EvalConfig(num_prompts=0, num_sample_prompts=1, num_steps=2, shift=2.0),
    )
    assert (config.rollout.shift, config.rollout.guidance) == (None, None)
    train(config, pipeline=pipeline(), reward=red, prompts=PROMPTS)
    shift = own_shift(make_policy(pipeline(), max_sequence_length=24, resolution=16), 28)
    assert f"the model's own: 28, {shift:.4g}, 3.5" in capsys.readouterr().out
    later = replace(config, num_iterations=2)
    train(later, pipeline=pipeline(base_shift=0.9), reward=red, prompts=PROMPTS, quiet=True, resume=True)
    saved = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert saved["rollout"] | {"num_steps": 2, "shift": pytest.approx(shift), "guidance": 3.5} == saved["rollout"]
    assert saved["eval"] | {"num_steps": 2, "shift": 2.0, "guidance": 3.5} == saved["eval"]


def test_what_a_run_cannot_be_drawn_with_is_refused_once_the_model_is_known():
    config = Config(objective=FlowGRPO(), update=replace(Config().update, guidance=2.0))
    with pytest.raises(ValueError, match=r"it needs their guidance, rollout\.guidance=7\.0"):
        config.resolved(Defaults(28, 1.0, 7.0))
    with pytest.raises(ValueError, match=r"rollout\.num_steps=1"):
        replace(config, update=Config().update).resolved(Defaults(1, 1.0, 1.0))
