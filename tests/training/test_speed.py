"""A compiled network and other attention kernels give what the plain network gives."""

import functools
import shutil

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from helpers import pipelines
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo import train
from vgrpo.models import loading
from vgrpo.models.attention import choose_attention
from vgrpo.models.compiled import compile_blocks
from vgrpo.models.loading import load_policy, make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig, MemoryConfig
from vgrpo.models.weight_sets import merged, trainable
from vgrpo.training.settings.config import RolloutConfig

WEIGHTS_IN_RUN = "lora/pytorch_lora_weights.safetensors"
KINDS = {"sana": pipelines.sana, "sdxl": pipelines.sdxl, "flux": pipelines.flux}


@pytest.fixture(autouse=True)
def fresh_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def answers(kind, *, compiled, checkpointing, autocast):
    """v with guidance, the adapter's gradients, v with the adapter merged, and the names of the weights."""
    resolution = 32 if kind == "sana" else 16
    policy = make_policy(KINDS[kind](), max_sequence_length=16, resolution=resolution, autocast=autocast)
    policy.module.requires_grad_(False)
    if compiled:  # what is compiled, and when, is tested; kernels are the business of the back end
        compile_blocks(policy.module, backend="aot_eager")
    add_lora(policy, LoraConfig(rank=2, alpha=4), seed=0)
    if checkpointing:
        policy.module.enable_gradient_checkpointing()
    generator = torch.Generator().manual_seed(1)
    weights = trainable(policy.module)
    for parameter in weights.values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    x_t, t = torch.randn(2, *policy.latent_shape, generator=generator), torch.tensor([0.5, 0.7])
    cond = policy.encode(PROMPTS[:2])
    with policy.attention():  # as in the trainer
        v = policy.velocity(x_t, t, cond, 3.0)
        v.float().square().mean().backward()
    with torch.no_grad(), merged(policy.module):
        sampled = policy.velocity(x_t, t, cond)
    return v.detach(), [parameter.grad for parameter in weights.values()], sampled, list(policy.module.state_dict())


@pytest.mark.parametrize(
    ("kind", "checkpointing", "autocast"),
    [
        ("sana", False, None),
        ("sdxl", True, torch.bfloat16),
        ("flux", True, None),
    ],
)
def test_compiled_blocks_answer_and_learn_alike(kind, checkpointing, autocast):
    settings = {"checkpointing": checkpointing, "autocast": autocast}
    v, gradients, sampled, names = answers(kind, compiled=False, **settings)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    v_c, gradients_c, sampled_c, names_c = answers(kind, compiled=True, **settings)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    tolerance = {"rtol": 1e-3, "atol": 1e-5} if autocast is None else {"rtol": 0.05, "atol": 0.02}
    assert torch.allclose(v, v_c, **tolerance)
    assert torch.allclose(sampled, sampled_c, **tolerance)
    assert all(torch.allclose(a, b, **tolerance) for a, b in zip(gradients, gradients_c, strict=True))
    assert names == names_c


def test_a_dozen_shapes_are_all_compiled():
    policy = make_policy(pipelines.sana(), max_sequence_length=16, resolution=32)
    compile_blocks(policy.module, backend="eager")
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    with torch.no_grad():
        for size in range(1, 13):
            policy.velocity(
                torch.zeros(size, *policy.latent_shape), torch.full((size,), 0.5), policy.encode(PROMPTS[:1] * size)
            )
    assert counters["unique_graphs"] - before >= 12


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor's kernels for a CPU need g++")
def test_generated_kernels_answer_and_learn_alike():
    """Inductor's own, once: what users run, with recomputation in bf16."""
    policy = make_policy(pipelines.sana(), max_sequence_length=16, resolution=32, autocast=torch.bfloat16)
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=2, alpha=4), seed=0)
    policy.module.enable_gradient_checkpointing()
    x_t = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    found = []
    for compiled in (False, True):
        if compiled:
            compile_blocks(policy.module)
        policy.module.zero_grad()
        with policy.attention():
            v = policy.velocity(x_t, torch.tensor([0.5, 0.7]), policy.encode(PROMPTS[:2]))
            v.float().square().mean().backward()
        found.append([v.detach(), *(parameter.grad.clone() for parameter in trainable(policy.module).values())])
    assert all(torch.allclose(a, b, rtol=0.05, atol=0.02) for a, b in zip(*found, strict=True))


def test_a_compiled_run_saves_and_resumes_as_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "compile_blocks", functools.partial(compile_blocks, backend="aot_eager"))
    settings = {
        "rollout": RolloutConfig(num_prompts=1, group_size=2, num_steps=2, guidance=2.0),
        "memory": MemoryConfig(gradient_checkpointing=True),
    }
    for name, count, resume in (("eager", 2, False), ("whole", 2, False), ("stopped", 1, False), ("stopped", 2, True)):
        config = tiny_config(tmp_path / name, num_iterations=count, compile=name != "eager", **settings)
        train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True, resume=resume)
    eager, whole, stopped = (load_file(tmp_path / name / WEIGHTS_IN_RUN) for name in ("eager", "whole", "stopped"))
    assert eager.keys() == whole.keys() == stopped.keys()
    assert all(torch.equal(value, stopped[key]) for key, value in whole.items())
    assert all(torch.allclose(value, eager[key], atol=1e-4) for key, value in whole.items())
    plain = tiny_pipeline()
    plain.load_lora_weights(tmp_path / "whole/lora")
    loaded = plain.transformer.state_dict()
    assert any(torch.equal(value, next(iter(whole.values()))) for value in loaded.values())


def flux_velocity(name):
    policy = make_policy(pipelines.flux(), max_sequence_length=16, resolution=16)
    if name is not None:
        choose_attention(policy.module, name)
    x_t = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return policy.velocity(x_t, torch.tensor([0.5, 0.7]), policy.encode(PROMPTS[:2]))


def test_attention_back_ends_agree_and_stay_with_their_network():
    default, _ = _AttentionBackendRegistry.get_active_backend()
    plain = flux_velocity(None)
    for name in ("native", "_native_math"):
        assert torch.allclose(flux_velocity(name), plain, atol=1e-5)
        assert _AttentionBackendRegistry.get_active_backend()[0] == default


def test_attention_without_a_gradient_is_refused(monkeypatch):
    def forward_only(query, **_):
        return query.detach()

    native = AttentionBackendName("_native_math")
    monkeypatch.setitem(_AttentionBackendRegistry._backends, native, forward_only)
    with pytest.raises(ValueError, match=r"attention=_native_math cannot be used: .*does not require grad"):
        flux_velocity("_native_math")


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (pipelines.flux, "nativ", r"attention=nativ: did you mean native\? Usable here: native, .*_native_math"),
        (pipelines.flux, "flash", r"attention=flash cannot be used: .*install `flash-attn.*Usable here: native"),
        (pipelines.flux, "_native_cudnn", r"attention=_native_cudnn cannot be used: .*Usable here: native"),
        (tiny_pipeline, "native", "a SD3Transformer2DModel leaves no choice of its attention"),
    ],
)
def test_attention_that_cannot_be_is_refused_at_the_start(make, name, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        load_policy(tiny_config(tmp_path, attention=name).model_settings, make())
