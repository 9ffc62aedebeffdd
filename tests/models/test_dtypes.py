"""Types of weights and arithmetic: what is trained is never rounded, and what the hardware lacks is said."""

import warnings
from dataclasses import replace

import pytest
import torch
from helpers import pipelines
from helpers.tiny import red, tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.models.loading import load_pipeline, load_policy
from vgrpo.models.precision import autocast_dtype, device_of, faster_on_cpu, frozen_dtype
from vgrpo.models.settings import MemoryConfig, ModelSettings
from vgrpo.models.text_store import text_encoders
from vgrpo.models.weight_sets import trainable
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given, start_run

KINDS = {
    "sd3": tiny_pipeline,
    "sdxl": pipelines.sdxl,
    "flux": pipelines.flux,
    "flux2": pipelines.flux2,
    "qwen_image": pipelines.qwen_image,
    "sana": pipelines.sana,
    "wan": pipelines.wan,
}
TEXTS = ["a red heart", "two blue stars"]


@pytest.fixture(params=KINDS)
def config(request, tmp_path):
    KINDS[request.param]().save_pretrained(tmp_path / "model")
    side = {"sd3": 64, "sana": 32, "wan": 32}.get(request.param, 16)
    rollout = RolloutConfig(num_prompts=1, group_size=2, num_steps=2, guidance=2.0)
    settings = {"num_iterations": 1, "max_sequence_length": 24, "resolution": side, "rollout": rollout}
    return tiny_config(tmp_path / "run", model=str(tmp_path / "model"), **settings)


@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_with_frozen_weights_in_bf16_what_is_trained_is_fp32_and_starts_unrounded(config, finetune):
    config = replace(config, finetune=finetune, memory=MemoryConfig(weights="bf16"))
    run = start_run(config, Given(reward=red, prompts=TEXTS))
    assert {encoder.dtype for encoder in text_encoders(run.policy.pipeline)} == {torch.bfloat16}
    start, network = trainable(run.policy.module), run.policy.network
    assert {value.dtype for value in start.values()} == {torch.float32}
    if finetune == "full":
        saved = load_pipeline(config.model).components[network].state_dict()
        assert all(torch.equal(value, saved[name]) for name, value in start.items())
        assert any(not torch.equal(value, value.bfloat16().float()) for value in saved.values())
    again = replace(config, output_dir=config.output_dir.with_name("again"), ema_decay=0.0)
    trained = trainable(train(again, reward=red, prompts=TEXTS, quiet=True).pipeline.components[network])
    assert trained.keys() == start.keys()
    assert any(not torch.equal(value, start[name]) for name, value in trained.items())


def test_pictures_are_drawn_in_the_formats_of_training(config):
    """As on a GPU with bf16: the network in bf16 with the run's fp32 adapter over it, the autoencoder in fp32."""
    train(config, reward=red, prompts=TEXTS, quiet=True)
    drawn = []
    for weights, precision in (("bf16", "bf16"), ("fp32", "fp32")):
        memory = MemoryConfig(weights=weights)
        size = {"max_sequence_length": config.max_sequence_length, "resolution": config.resolution}
        settings = ModelSettings(model=config.model, memory=memory, precision=precision, **size)
        policy = load_policy(settings, lora=config.output_dir / "lora")
        frozen = {value.dtype for name, value in policy.module.named_parameters() if "lora" not in name}
        assert (torch.bfloat16 in frozen) == (weights == "bf16")  # Wan keeps a few layers in fp32 all the same
        assert policy.pipeline.vae.dtype == torch.float32
        noise = named_noise(policy, "dtypes")[None]
        with torch.no_grad():
            _, images = draw_images(policy, [Prompt(text=TEXTS[0])], noise, Sampling(solver="euler", num_steps=2, guidance=2.0))
        drawn.append(images)
    assert torch.allclose(*drawn, atol=0.1)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [str(device_of(name)) for name in ("auto", "cuda:1", "cpu")] == ["cuda", "cuda:1", "cpu"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert str(device_of("auto")) == "cpu"


@pytest.mark.parametrize(
    ("name", "count", "why"),
    [
        ("gpu", 0, "must be auto, cpu, cuda"),
        ("", 0, "must be auto, cpu, cuda"),
        ("cuda", 0, "torch finds cpu here"),
        ("cuda:2", 2, "torch finds cpu, cuda:0, cuda:1 here"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(name, count, why, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    with pytest.raises(ValueError, match=f"device={name}: {why}"):
        start_run(tiny_config(tmp_path / "run", device=name), Given(reward=red, prompts=TEXTS))
    assert not (tmp_path / "run").exists()


def test_a_pipeline_in_memory_may_be_half_precision(tmp_path):
    pipeline = tiny_pipeline()
    for part in (pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2):
        part.half()
    config = tiny_config(tmp_path / "run", num_iterations=1, finetune="full")
    trained = train(config, pipeline=pipeline, reward=red, prompts=TEXTS, quiet=True).pipeline.transformer
    assert {value.dtype for value in trained.parameters()} == {torch.float32}


@pytest.fixture
def without_bf16(monkeypatch):
    """Hardware that has no bf16, but imitates it."""
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    faster_on_cpu.cache_clear()
    yield
    faster_on_cpu.cache_clear()


def test_hardware_without_bf16_computes_in_fp32_and_says_so_where_bf16_is_asked_for(without_bf16, tmp_path):
    for device in (torch.device("cpu"), torch.device("cuda")):
        assert autocast_dtype("auto", device) is None
        with pytest.warns(UserWarning, match=f"precision=bf16: this {device.type} only imitates bf16"):
            assert autocast_dtype("bf16", device) is torch.bfloat16
    config = tiny_config(tmp_path / "run", precision="bf16", num_iterations=1)
    with pytest.warns(UserWarning, match="only imitates bf16"):
        result = train(config, pipeline=tiny_pipeline(), reward=red, prompts=TEXTS, quiet=True)
    assert (result.output_dir / "lora").is_dir()


@pytest.mark.parametrize(("bf16", "fp32", "found"), [(1.0, 2.0, torch.bfloat16), (2.0, 1.0, None)])
def test_a_cpu_with_bf16_computes_in_what_is_faster(monkeypatch, bf16, fp32, found):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("vgrpo.models.precision._seconds", lambda block, tokens, dtype: bf16 if dtype else fp32)
    faster_on_cpu.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert autocast_dtype("auto", torch.device("cpu")) == found
            assert autocast_dtype("bf16", torch.device("cpu")) is torch.bfloat16
    finally:
        faster_on_cpu.cache_clear()


def test_what_a_cpu_is_faster_in_is_tried_without_a_trace():
    faster_on_cpu.cache_clear()
    state = torch.get_rng_state()
    assert faster_on_cpu() in ("bf16", "fp32")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_that_goes_on_computes_as_it_began(tmp_path, monkeypatch):
    def run(found, num_iterations, **options):
        monkeypatch.setattr("vgrpo.models.precision.faster_on_cpu", lambda: found)
        config = tiny_config(tmp_path / "run", precision="auto", num_iterations=num_iterations)
        train(config, pipeline=tiny_pipeline(), reward=red, prompts=TEXTS, quiet=True, **options)
        return (tmp_path / "run/config.yaml").read_text()

    assert "precision: fp32\n" in run("fp32", 1)
    assert "precision: fp32\n" in run("bf16", 2, resume=True)


@pytest.mark.parametrize(
    ("weights", "finetune", "on_gpu", "dtype"),
    [
        ("auto", "lora", True, torch.bfloat16),
        ("auto", "lora", False, torch.float32),
        ("auto", "full", True, torch.float32),
        ("bf16", "full", False, torch.bfloat16),
        ("fp32", "lora", True, torch.float32),
    ],
)
def test_how_frozen_weights_are_kept(weights, finetune, on_gpu, dtype):
    assert frozen_dtype(weights, on_gpu, full=finetune == "full") is dtype
