"""A network as it draws: adapters merged into bf16 weights, and no mixed precision where none is needed."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import PROMPTS, tiny_pipeline
from peft.tuners.lora import LoraLayer

from vgrpo.models.adapters.qwen_image import STEP
from vgrpo.models.drawing import for_drawing
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.precision import allow_tf32
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import adapted, merged, trainable


def _young_bf16():
    policy = make_policy(tiny_pipeline().to(torch.bfloat16), max_sequence_length=0, autocast=torch.bfloat16)
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=2), 0)
    for name, parameter in trainable(policy.module).items():
        parameter.data += 3e-5 if "lora_B" in name else 0.0
    return policy


def test_a_young_adapter_is_not_rounded_away_in_bf16_weights():
    """All of a change below the weights' last digits is there on average, in the direction in which it was learned."""
    policy = _young_bf16()
    layers = [layer for layer in policy.module.modules() if isinstance(layer, LoraLayer)]
    own = [weight.detach().float() for weight in adapted(policy.module)]
    change = [layer.get_delta_weight("default").detach() for layer in layers]
    with merged(policy.module):
        drawn = [weight.detach().float() for weight in adapted(policy.module)]
    whole = sum(float(c.square().sum()) for c in change)
    kept = sum(float((c * (d - w)).sum()) for c, d, w in zip(change, drawn, own, strict=True)) / whole
    nearest = sum(float((c * ((w + c).bfloat16().float() - w)).sum()) for c, w in zip(change, own, strict=True)) / whole
    assert kept == pytest.approx(1, abs=0.1)
    assert nearest < 0.7  # what rounding to the nearest would leave of it


def test_bf16_weights_are_merged_alike_each_time_and_come_back_bit_for_bit():
    policy, seen = _young_bf16(), []
    before = {name: value.clone() for name, value in policy.module.state_dict().items()}
    places = [weight.data_ptr() for weight in adapted(policy.module)]

    def draw_and_fail():
        with for_drawing(policy):
            assert policy.autocast is None  # all is bf16 now
            assert [weight.data_ptr() for weight in adapted(policy.module)] == places  # compiled graphs hold on to them
            seen.append([weight.detach().clone() for weight in adapted(policy.module)])
            raise RuntimeError("inside")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside"):
            draw_and_fail()
        assert policy.autocast is torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in policy.module.state_dict().items())


@pytest.mark.parametrize(
    "make", [tiny_pipeline, pipelines.sdxl, pipelines.flux, pipelines.sana, pipelines.wan, pipelines.z_image]
)
def test_a_bf16_network_draws_alike_without_mixed_precision(make):
    resolution = {tiny_pipeline: 64, pipelines.sana: 32}.get(make, 16)
    policy = make_policy(make().to(torch.bfloat16), max_sequence_length=8, resolution=resolution, autocast=torch.bfloat16)
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=2), 0)
    for parameter in trainable(policy.module).values():
        parameter.data += 0.01
    x, t, cond = torch.randn(2, *policy.latent_shape), torch.tensor([0.5, 0.7]), policy.encode(PROMPTS[:2])
    with torch.no_grad():
        trained = policy.velocity(x, t, cond, 2.0).float()
        with for_drawing(policy):
            drawn = policy.velocity(x, t, cond, 2.0).float()
    assert 0 < (drawn - trained).norm() < 0.05 * trained.norm()


def test_longer_padding_changes_no_answer_of_qwen_image():
    """Of two batches with the same text, one beside a longer text and so padded further."""
    policy = make_policy(pipelines.qwen_image(), max_sequence_length=256, resolution=16)
    short, long = "a red heart", "two blue stars and " * 6
    apart, beside = policy.encode([short]), policy.encode([short, long])
    assert apart.sequence.shape[1] < beside.sequence.shape[1] < 256
    assert apart.sequence.shape[1] % STEP == 0
    x = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    t = torch.tensor([0.6, 0.6])
    with torch.no_grad():
        one, two = policy.velocity(x[:1], t[:1], apart, 3.0), policy.velocity(x, t, beside, 3.0)
    assert torch.allclose(one[0], two[0], atol=1e-5)
    assert not torch.allclose(one[0], two[1], atol=1e-3)


def test_tf32_is_for_gpus_and_not_where_fp32_is_asked_for():
    before = torch.get_float32_matmul_precision()
    try:
        for precision, device, expected in (("auto", "cuda", "high"), ("fp32", "cuda", "highest"), ("auto", "cpu", "highest")):
            allow_tf32(precision, torch.device(device))
            assert torch.get_float32_matmul_precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)
