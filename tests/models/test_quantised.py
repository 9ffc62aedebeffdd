"""A frozen network in 8 bits by torchao, as everywhere, or in 4 by bitsandbytes' CPU kernels, loaded as on a GPU: only
diffusers' question for a GPU is left out."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from diffusers.quantizers.bitsandbytes import bnb_quantizer
from helpers import pipelines
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import train
from vgrpo.commands.main import main
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.quantised import LINEAR_BYTES
from vgrpo.models.settings import LoraConfig, MemoryConfig, ModelSettings
from vgrpo.models.weight_sets import merged, trainable

TINY = {"sd3": (tiny_pipeline, 64), "flux": (pipelines.flux, 16), "sdxl": (pipelines.sdxl, 16), "wan": (pipelines.wan, 16)}


@pytest.fixture(params=TINY, scope="module")
def folder(request, tmp_path_factory):
    make, pixels = TINY[request.param]
    path = tmp_path_factory.mktemp(request.param)
    make().save_pretrained(path)
    return path, pixels


@pytest.fixture
def any_machine(monkeypatch):
    monkeypatch.setattr(bnb_quantizer.BnB4BitDiffusersQuantizer, "validate_environment", lambda *_, **__: None)
    # Where a CPU has AVX-512 bf16, bitsandbytes takes a kernel there that fails on layers of fewer than 64 inputs.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


def _bytes(weight):
    """Without scales, which are no weights."""
    return getattr(weight, "qdata", weight).nbytes


def answers(folder, pixels, weights):
    """A network's velocities under a fresh adapter, merged and not, what has a gradient, and the bytes of some layers."""
    memory = MemoryConfig(weights=weights)
    settings = ModelSettings(model=str(folder), device="cpu", precision="fp32", resolution=pixels, memory=memory)
    policy = load_policy(replace(settings, max_sequence_length=16))
    size = sum(_bytes(layer.weight) for name, layer in policy.module.named_modules() if name.endswith((".to_q", ".to_k")))
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=4), 0)
    rng = torch.Generator().manual_seed(0)
    x, t = torch.randn(2, *policy.latent_shape, generator=rng), torch.tensor([0.3, 0.7])
    cond = policy.encode(PROMPTS[:2])
    v = policy.velocity(x, t, cond)
    v.square().mean().backward()
    with merged(policy.module), torch.no_grad():
        drawn = policy.velocity(x, t, cond)
    parameters = trainable(policy.module).values()
    return v.detach(), drawn, [each for each in parameters if each.grad is not None and each.grad.any()], size


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_network_answers_nearly_as_before_and_trains_an_adapter_in_fp32(folder, any_machine):
    whole, _, learning, size = answers(*folder, "fp32")
    for weights, most in (("int8", 0.05), ("nf4", 0.35)):
        v, drawn, trained, small = answers(*folder, weights)
        assert 0 < (v - whole).norm() < most * whole.norm()
        assert torch.equal(v, drawn)  # nothing is merged into rounded weights
        assert len(trained) == len(learning) > 0
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        scales = 4 / 64 if weights == "nf4" else 0.0
        assert small == pytest.approx(size / 4 * (LINEAR_BYTES[weights] - scales), rel=0.01)


@pytest.mark.parametrize("weights", ["int8", "nf4"])
def test_a_run_with_a_quantised_base_trains_and_resumes(tmp_path, any_machine, weights):
    pipelines.flux().save_pretrained(tmp_path / "model")
    memory = MemoryConfig(weights=weights, offload_encoders=True, gradient_checkpointing=True)
    config = tiny_config(
        tmp_path / "run", model=str(tmp_path / "model"), resolution=16, max_sequence_length=16, num_iterations=1, memory=memory
    )
    train(config, reward=red, prompts=PROMPTS, quiet=True)
    train(replace(config, num_iterations=2), reward=red, prompts=PROMPTS, quiet=True, resume=True)
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2
    assert main(["export", str(tmp_path / "run"), "--merge", "--output-dir", str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged/transformer/diffusion_pytorch_model.safetensors").is_file()


def test_what_cannot_be_quantised_is_refused(tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run", memory=MemoryConfig(weights="nf4"))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"memory\.weights=nf4: No GPU found"):
            train(config, reward=red, prompts=PROMPTS, quiet=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'weights=int8 needs torchao: pip install "vgrpo\[torchao\]"'):
        train(replace(config, memory=MemoryConfig(weights="int8")), reward=red, prompts=PROMPTS, quiet=True)
    with pytest.raises(ValueError, match="with --finetune full nothing is frozen"):
        train(replace(config, finetune="full"), reward=red, prompts=PROMPTS, quiet=True)


def test_a_pipeline_in_memory_is_not_quantised(tmp_path, any_machine):
    config = tiny_config(tmp_path / "run", memory=MemoryConfig(weights="nf4"))
    with pytest.raises(ValueError, match="a pipeline in memory stays as it is"):
        train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
