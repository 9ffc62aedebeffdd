"""AdamW with its state in 8 bits: as many bytes as it says, near AdamW, and resumed bit for bit."""

import importlib.util

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo import train
from vgrpo.models.settings import LoraConfig
from vgrpo.training.checkpoints.checkpoint import load
from vgrpo.training.optimizer import Optimizer, make_adamw
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig

EIGHT = UpdateConfig(optimizer="adamw_8bit", lr=1e-3)


def steps(config, shape, count=20):
    """A parameter and its optimiser after steps down |x - 1|^2 from fixed random numbers."""
    parameter = torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    optimizer = make_adamw([parameter], config, config.lr)
    for _ in range(count):
        parameter.grad = parameter.detach() - 1
        optimizer.step()
    return parameter.detach(), optimizer


def test_a_state_in_8_bits_is_a_quarter_and_steps_nearly_alike():
    config = UpdateConfig(lr=1e-2, weight_decay=0.1)
    exact, plain = steps(config, (512, 128))
    rounded, eight = steps(UpdateConfig(optimizer="adamw_8bit", lr=1e-2, weight_decay=0.1), (512, 128))

    def per_weight(optimizer):
        (state,) = optimizer.state.values()
        own = [value for name, value in state.items() if name not in ("step", "qmap1", "qmap2")]  # all share the maps
        return sum(value.numel() * value.element_size() for value in own) / exact.numel()

    assert per_weight(plain) == 8
    assert per_weight(eight) == 2 + 8 / 256
    moved = (exact - steps(config, (512, 128), count=0)[0]).abs().mean()
    assert 0 < (rounded - exact).abs().mean() < 0.03 * moved


def test_a_run_with_it_resumes_bit_for_bit(tmp_path):
    settings = {
        "update": EIGHT,
        "lora": LoraConfig(rank=128, alpha=128),  # wide enough for 8 bits
        "rollout": RolloutConfig(num_prompts=2, group_size=2, num_steps=2),
    }
    for name, count, resume in (("whole", 4, False), ("stopped", 2, False), ("stopped", 4, True)):
        config = tiny_config(tmp_path / name, num_iterations=count, **settings)
        train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True, resume=resume)
    state = load(tmp_path / "stopped/checkpoints", 4).state["optimizer"]["state"]
    moments = [values.get("__bnb_optimizer_quant_state__", values)["state1"] for values in state.values()]
    assert torch.uint8 in {moment.dtype for moment in moments}
    whole, stopped = (load_file(tmp_path / name / "lora/pytorch_lora_weights.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(value, stopped[key]) for key, value in whole.items())


def test_a_missing_package_is_named_before_anything_is_loaded(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(ValueError, match=r'adamw_8bit needs bitsandbytes: pip install "vgrpo\[bitsandbytes\]"'):
        train(tiny_config(tmp_path / "run", update=EIGHT, model="sprites"), reward=red, prompts=PROMPTS)


@pytest.mark.parametrize(("norm", "left"), [(0.0, -4.0), (1e9, -4.0), (3**0.5, 0.0)])
def test_a_norm_of_0_clips_nothing(norm, left):
    parameter = torch.nn.Parameter(torch.ones(3))
    inner = torch.optim.SGD([parameter], lr=1.0)
    optimizer = Optimizer(inner=inner, parameters=[parameter], lr=1.0, num_warmup_steps=0, max_grad_norm=norm)
    (5 * parameter).sum().backward()
    assert optimizer.step(torch.tensor(1.0)) == pytest.approx(75**0.5)
    assert parameter.tolist() == pytest.approx([left] * 3, abs=1e-5)
