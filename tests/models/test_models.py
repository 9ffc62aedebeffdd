"""Every architecture on a tiny random pipeline of the real classes, saved in the real format."""

import inspect
from dataclasses import replace

import pytest
import torch
from helpers import pipelines
from helpers.tiny import red, tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.core import flow
from vgrpo.models.adapters.packed import pack, unpack
from vgrpo.models.adapters.unet import noise_level
from vgrpo.models.loading import load_pipeline, load_policy, make_policy
from vgrpo.models.lora import add_lora, save_lora
from vgrpo.models.settings import LoraConfig, ModelSettings
from vgrpo.models.weight_sets import trainable
from vgrpo.sampling.draw import draw_latents
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given, start_run

KINDS = {
    "sd3": tiny_pipeline,
    "sd15": pipelines.stable_diffusion,
    "sd21": pipelines.stable_diffusion_v,
    "sdxl": pipelines.sdxl,
    "flux": pipelines.flux,
    "flux2": pipelines.flux2,
    "flux2_klein": pipelines.flux2_klein,
    "qwen_image": pipelines.qwen_image,
    "sana": pipelines.sana,
    "wan": pipelines.wan,
    "wan22": pipelines.wan22,
    "z_image": pipelines.z_image,
}
VARIANTS = ("flux2_klein", "wan22")  # whose adapter is another's but for the forward
WHOLE = pytest.mark.parametrize("name", [name for name in KINDS if name not in VARIANTS], scope="module")
LENGTH = 24  # tokens
RESOLUTIONS = {"sd3": 64, "sana": 64, "wan": 32, "wan22": 64}  # where it is not 16
TEXTS = ["a red heart", "two blue stars"]


@pytest.fixture(params=KINDS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def folder(name, folders):
    """By the name of its kind: processes of pytest-xdist take the kinds in any order, some of them twice."""
    if not (folders / name).exists():
        KINDS[name]().save_pretrained(folders / name)
    return folders / name


def policy_of(name, folder, resolution=None):
    resolution = resolution or RESOLUTIONS.get(name, 16)
    return make_policy(load_pipeline(str(folder)), max_sequence_length=LENGTH, resolution=resolution)


def job(name, folder, tmp_path, **changes):
    """One training iteration into tmp_path / "run"."""
    settings = {"num_iterations": 1, "max_sequence_length": LENGTH, "resolution": RESOLUTIONS.get(name, 16)}
    return tiny_config(tmp_path / "run", model=str(folder), **settings, **changes)


def pipeline_images(name, pipeline, noise, sides, guidance, num_steps):
    """[B, 3, H, W] from the pipeline's own sampler and the same noise."""
    settings = {"height": sides[0], "width": sides[1], "num_inference_steps": num_steps, "output_type": "pt"}
    settings["latents"] = pack(noise) if name in ("flux", "qwen_image") else noise
    if name not in ("sd15", "sd21", "sdxl"):
        settings["max_sequence_length"] = LENGTH
    if name == "sana":
        settings["use_resolution_binning"] = False  # which only knows the real sizes
    if name == "qwen_image":
        settings |= {"true_cfg_scale": guidance, "negative_prompt": ""}
    elif name == "z_image":
        settings["guidance_scale"] = guidance - 1
    else:
        settings["guidance_scale"] = guidance
    if name in ("wan", "wan22"):
        frames = 4 * noise.shape[2] - 3
        return pipeline(prompt=TEXTS, num_frames=frames, **settings).frames[:, -1]
    return pipeline(prompt=list(TEXTS), **settings).images  # Z-Image changes the list


def own_schedule(pipeline):
    """Times of the pipeline's own sampler, once it has run, and what its starting noise is divided by."""
    scheduler = pipeline.scheduler
    if not hasattr(scheduler, "alphas_cumprod"):
        return scheduler.sigmas.double(), 1.0
    bar = scheduler.alphas_cumprod[scheduler.timesteps].double()
    a, b = bar.sqrt(), (1 - bar).sqrt()
    return torch.cat([b / (a + b), torch.zeros(1, dtype=torch.float64)]), float(a[0] + b[0])


@pytest.mark.parametrize(("guidance", "form"), [(1.0, "square"), (3.0, "wide")])
def test_our_sampler_draws_the_pipelines_own_images(name, folder, guidance, form):
    side = RESOLUTIONS.get(name, 16)
    policy = policy_of(name, folder, side if form == "square" else f"{side}x{side // 2}")
    pipeline, num_steps = policy.pipeline, 4
    if hasattr(pipeline.scheduler.config, "set_alpha_to_one"):
        pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=True)
    noise = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    sides = policy.decode(noise).shape[-2:]
    assert (sides[1] == 2 * sides[0]) == (form == "wide")
    theirs = pipeline_images(name, pipeline, noise, sides, guidance, num_steps)
    times, scale = own_schedule(pipeline)
    with torch.no_grad():
        x_0 = draw_latents(policy, policy.encode(TEXTS), noise / scale, solver="euler", times=times, guidance=guidance)
    ours = policy.decode(x_0)
    assert ours.std() > 0.01
    assert torch.allclose(ours, theirs.float(), atol=2e-3)


def test_training_changes_the_adapter_alone_and_its_file_loads(name, folder, tmp_path):
    pipeline = load_pipeline(str(folder))
    config = job(
        name,
        folder,
        tmp_path,
        rollout=RolloutConfig(num_prompts=2, group_size=2, num_steps=2, guidance=2.0),
        ema_decay=0.0,
    )
    result = train(config, pipeline=pipeline, reward=red, prompts=[Prompt(text=text) for text in TEXTS], quiet=True)
    tuned, fresh = policy_of(name, folder), policy_of(name, folder)
    tuned.pipeline.load_lora_weights(tmp_path / "run/lora")
    for key, value in fresh.module.state_dict().items():
        layer, _, part = key.rpartition(".")
        own = result.pipeline.components[fresh.network].state_dict()
        assert torch.equal(value, own.get(key, own.get(f"{layer}.base_layer.{part}")))
    noise = torch.randn(2, *fresh.latent_shape, generator=torch.Generator().manual_seed(1))
    drawn = make_policy(result.pipeline, max_sequence_length=LENGTH, resolution=config.resolution)
    images = [
        policy.decode(draw_latents(policy, policy.encode(TEXTS), noise, solver="euler", times=flow.schedule(2), guidance=1.0))
        for policy in (drawn, tuned, fresh)
    ]
    assert torch.allclose(images[0], images[1], atol=1e-4)
    assert not torch.allclose(images[0], images[2], atol=1e-6)


@WHOLE
def test_the_next_run_goes_on_from_the_adapter_in_the_same_pipeline(name, folder, tmp_path):
    pipeline, prompts = load_pipeline(str(folder)), [Prompt(text=text) for text in TEXTS]
    config = job(name, folder, tmp_path, rollout=RolloutConfig(num_prompts=2, group_size=2, num_steps=2), ema_decay=0.0)
    network = train(config, pipeline=pipeline, reward=red, prompts=prompts, quiet=True).pipeline.components
    before = {key: value.clone() for key, value in network[policy_of(name, folder).network].state_dict().items()}
    pipeline.unload_lora_weights()
    going_on = replace(config, output_dir=tmp_path / "next", lora=replace(config.lora, init=tmp_path / "run/lora"))
    after = start_run(going_on, Given(pipeline=pipeline, reward=red, prompts=prompts)).policy.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert any(value.any() for key, value in after.items() if "lora_B" in key)


def test_guidance_costs_a_second_forward_unless_the_network_takes_it_in(name, folder):
    assert policy_of(name, folder).num_branches(3.0) == (1 if name in ("flux", "flux2") else 2)
    assert policy_of(name, folder).num_branches(1.0) == 1


def test_blank_text_is_what_the_encoders_return_without_running_them(name, folder):
    policy = policy_of(name, folder)
    blank, real = policy.blank_text(2), policy.encode(TEXTS)
    for part in ("sequence", "pooled", "mask"):
        ours, theirs = getattr(blank, part), getattr(real, part)
        assert (ours is None) == (theirs is None)
        assert ours is None or (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


def test_texts_are_as_long_as_the_pipeline_has_them(name, folder):
    pipeline = load_pipeline(str(folder))
    theirs = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
    assert theirs is None or make_policy(pipeline).max_sequence_length == theirs.default
    if name == "flux":
        pipeline.transformer.register_to_config(guidance_embeds=False)
        assert make_policy(pipeline).max_sequence_length == 256  # FLUX.1-schnell


@WHOLE
def test_an_adapter_of_another_model_is_refused(name, folder, tmp_path):
    other = "sdxl" if name != "sdxl" else "sd15"
    policy = make_policy(KINDS[other](), resolution=RESOLUTIONS.get(other, 16))
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=2), 0)
    save_lora(policy, tmp_path / "lora")
    with pytest.raises(ValueError, match=r"--lora .*lora (does not fit|has no weights for the .* of)"):
        load_policy(ModelSettings(model=str(folder)), lora=tmp_path / "lora")


def test_wan_draws_the_pipelines_own_size_and_not_with_two_transformers():
    pipeline = pipelines.wan()
    assert make_policy(pipeline).latent_shape == (16, 5, 60, 104)  # 17 frames of 480 x 832
    assert make_policy(pipeline, resolution=240).latent_shape == (16, 5, 30, 30)
    pipeline.register_to_config(boundary_ratio=0.875)
    with pytest.raises(ValueError, match=r"Wan 2\.2 A14B, whose two transformers"):
        make_policy(pipeline)


def test_a_distilled_klein_is_not_guided():
    assert make_policy(pipelines.flux2_klein(is_distilled=True), resolution=16).num_branches(4.0) == 1


@WHOLE
def test_full_fine_tuning_saves_a_pipeline_that_loads(name, folder, tmp_path):
    config = job(name, folder, tmp_path, finetune="full", rollout=RolloutConfig(num_prompts=1, group_size=2, num_steps=2))
    result = train(
        config, pipeline=load_pipeline(str(folder)), reward=red, prompts=[Prompt(text=text) for text in TEXTS], quiet=True
    )
    loaded = policy_of(name, tmp_path / "run/pipeline")
    own = result.pipeline.components[loaded.network].state_dict()
    assert all(torch.equal(value, own[key]) for key, value in loaded.module.state_dict().items())
    assert set(trainable(result.pipeline.components[loaded.network])) == set(dict(loaded.module.named_parameters()))


def test_packing_is_undone_and_is_diffusers():
    x = torch.randn(2, 3, 4, 6)
    assert torch.equal(unpack(pack(x), 4, 6), x)
    from diffusers import FluxPipeline

    assert torch.equal(pack(x), FluxPipeline._pack_latents(x, 2, 3, 4, 6))


def test_noise_levels_between_the_schedules_steps():
    bar = pipelines.stable_diffusion().scheduler.alphas_cumprod
    a, b = bar.double().sqrt(), (1 - bar.double()).sqrt()
    step, got_a, got_b = noise_level((b / (a + b))[[0, 400, 999]], bar)
    assert torch.allclose(step, torch.tensor([0.0, 400.0, 999.0]), atol=1e-2)
    assert torch.allclose(got_a, a[[0, 400, 999]].float(), atol=1e-5)
    assert torch.allclose(got_b**2 + got_a**2, torch.ones(3))
    step, _, _ = noise_level(torch.tensor([1.0, 0.0]), bar)
    assert step.tolist() == [999.0, 0.0]
