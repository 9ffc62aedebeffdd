"""Gradients: chunks, shards, skipped old forwards, weight switching, on a real (tiny, random) SD3."""

import pytest
import torch
from helpers.tiny import PROMPTS

from vgrpo.core.types import Batch
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import AverageWeights, merged, trainable
from vgrpo.objectives import OBJECTIVES, VGRPO
from vgrpo.training.update import backward, frozen_velocities, minibatches

FORWARD = [kind for kind in OBJECTIVES.values() if kind().drawing.step_sampler(0, 0) is None]
GROUP = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


@pytest.fixture
def policy(pipeline):
    policy = make_policy(pipeline, max_sequence_length=0)
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=2, alpha=4), seed=0)
    with torch.no_grad():
        for parameter in trainable(policy.module).values():
            parameter += 0.05 * torch.randn_like(parameter)
    return policy


def make_batch(policy, objective, valid=None):
    torch.manual_seed(1)
    x_0 = torch.randn(8, *policy.latent_shape)
    return Batch(
        points=objective.points(x_0, GROUP, "test"),
        cond=policy.encode([PROMPTS[g] for g in GROUP.tolist()]),
        advantage=torch.randn(8),
        group=GROUP,
        valid=torch.ones(8, dtype=torch.bool) if valid is None else valid,
    )


def gradients(policy):
    result = {name: p.grad.clone() for name, p in trainable(policy.module).items()}
    for p in trainable(policy.module).values():
        p.grad = None
    return result


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], **tolerance), name
    assert max(g.abs().max() for g in a.values()) > 1e-6


@pytest.mark.parametrize(
    ("objective", "guidance"),
    [
        (VGRPO(num_probes=2), 2.0),
        *((kind(num_probes=2), 1.0) for kind in FORWARD),
    ],
    ids=lambda value: getattr(type(value), "__name__", value),
)
@pytest.mark.parametrize("size", [1, 3, 8])
def test_chunked_gradient_is_the_whole_gradient(policy, size, objective, guidance):
    batch = make_batch(policy, objective)
    shape = (8, 2, *policy.latent_shape)
    base = {name: torch.randn(shape) for name in objective.baselines}
    backward(policy, objective, batch, base, guidance, None)
    whole = gradients(policy)
    backward(policy, objective, batch, base, guidance, size)
    assert_same(whole, gradients(policy), rtol=1e-3, atol=2e-6)


def test_shards_add_up_to_the_whole(policy):
    objective = VGRPO(num_probes=2)
    batch = make_batch(policy, objective)
    backward(policy, objective, batch, {}, 1.0, None)
    whole = gradients(policy)
    for part in minibatches(batch, 4, 2):
        assert len(part) == 4
        backward(policy, objective, part, {}, 1.0, None)
    halves = gradients(policy)
    assert_same(whole, {name: grad / 2 for name, grad in halves.items()}, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("objective", [VGRPO(num_probes=2), VGRPO(num_probes=2, ratio_clip=0.02, kl_weight=0.3)])
def test_skipping_the_old_forwards_leaves_the_gradient_as_it_is(policy, objective):
    batch = make_batch(policy, objective)
    old = frozen_velocities(policy, batch, 1.0, 4)
    metrics = backward(policy, objective, batch, {"old": old}, 1.0, 4)
    assert (metrics["ratio"] == 1).all()
    with_old = gradients(policy)
    backward(policy, objective, batch, {}, 1.0, 4)
    without = gradients(policy)
    assert all(torch.equal(with_old[name], without[name]) for name in with_old)


def test_failed_images_are_left_out_of_the_gradient(policy):
    objective = VGRPO(num_probes=2, kl_weight=0.3)
    valid = torch.tensor([True] * 6 + [False] * 2)
    backward(policy, objective, make_batch(policy, objective, valid), {}, 1.0, None)
    masked = gradients(policy)
    backward(policy, objective, make_batch(policy, objective)[:6], {}, 1.0, None)
    assert_same(masked, gradients(policy), rtol=1e-3, atol=1e-6)


def test_average_weights_come_and_go_bit_for_bit(policy):
    average = AverageWeights(policy.module, 0.5)
    with torch.no_grad():
        for p in trainable(policy.module).values():
            p += 1
    before = {name: p.clone() for name, p in trainable(policy.module).items()}

    def look_and_fail():
        with average.active():
            assert all(torch.equal(p, average.values[n]) for n, p in trainable(policy.module).items())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        look_and_fail()
    assert all(torch.equal(p, before[n]) for n, p in trainable(policy.module).items())
    average.step()  # decay (1 + 1) / (10 + 1)
    name, value = next(iter(before.items()))
    assert torch.allclose(average.values[name], value - 2 / 11)


def test_merged_adapters_answer_alike_and_come_off_bit_for_bit(policy):
    state = {name: value.clone() for name, value in policy.module.state_dict().items()}
    x, t, cond = torch.randn(2, *policy.latent_shape), torch.tensor([0.5, 0.7]), policy.encode(PROMPTS[:2])
    with torch.no_grad():
        apart = policy.velocity(x, t, cond)
        with merged(policy.module):
            together = policy.velocity(x, t, cond)
            assert any(not torch.equal(value, state[name]) for name, value in policy.module.state_dict().items())
        again = policy.velocity(x, t, cond)
    assert torch.allclose(apart, together, atol=1e-4)
    assert not torch.equal(apart, together)
    assert torch.equal(apart, again)
    assert all(torch.equal(value, state[name]) for name, value in policy.module.state_dict().items())


def test_guidance_carries_gradient_through_both_branches(policy):
    x, t = torch.randn(2, *policy.latent_shape), torch.tensor([0.5, 0.7])
    cond = policy.encode(PROMPTS[:2])
    text, empty = policy.velocity(x, t, cond), policy.velocity(x, t, policy.encode(["", ""]))
    expected = torch.autograd.grad((empty + 3 * (text - empty)).sum(), list(trainable(policy.module).values()))
    got = torch.autograd.grad(policy.velocity(x, t, cond, 3.0).sum(), list(trainable(policy.module).values()))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(expected, got, strict=True))


def test_a_target_that_matches_nothing_is_refused(pipeline):
    with pytest.raises(ValueError, match="'to_z' matches no linear layer"):
        add_lora(make_policy(pipeline, max_sequence_length=0), LoraConfig(targets=("to_q", "to_z")), seed=0)
