"""Wide adapters as one product with the sum of both: the same answers and the same gradient."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import tiny_pipeline
from peft.tuners.lora import LoraLayer

from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora, freeze
from vgrpo.models.settings import LoraConfig
from vgrpo.models.summed import _Summed, summed
from vgrpo.models.weight_sets import is_fresh, merged, trainable, without_adapter

KINDS = {"sd3": (tiny_pipeline, 64), "flux": (pipelines.flux, 16), "sdxl": (pipelines.sdxl, 16)}


def adapted_policy(name, rank=16, **settings):
    kind, side = KINDS[name]
    policy = make_policy(kind(), max_sequence_length=16, resolution=side, **settings)
    freeze(policy)
    add_lora(policy, LoraConfig(rank=rank, alpha=2 * rank), 0)
    return policy


def moved(policy):
    rng = torch.Generator().manual_seed(1)
    for parameter in trainable(policy.module).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)


def asked(policy):
    """Velocities of six rows, and the gradient of their squares."""
    rng = torch.Generator().manual_seed(2)
    x_t, t = torch.randn(6, *policy.latent_shape, generator=rng), torch.rand(6, generator=rng)
    cond = policy.encode(["a red heart", "a key"])[torch.arange(6) % 2]
    with policy.attention():
        v = policy.velocity(x_t, t, cond)
        grads = torch.autograd.grad(v.square().sum(), list(trainable(policy.module).values()))
    return v.detach(), grads


def count_of(monkeypatch):
    calls, apply = [], _Summed.apply
    monkeypatch.setattr(_Summed, "apply", lambda *args: calls.append(1) or apply(*args))
    return calls


@pytest.mark.parametrize("name", KINDS)
def test_answers_and_gradients_are_the_same(name, monkeypatch):
    policy, calls = adapted_policy(name), count_of(monkeypatch)
    moved(policy)
    v, grads = asked(policy)
    assert not calls
    with summed(policy):
        same, again = asked(policy)
    assert calls
    assert torch.allclose(v, same, atol=1e-5)
    for one, other in zip(grads, again, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * one.abs().max().item())
    assert all("forward" not in vars(layer) for layer in policy.module.modules())


def test_gradients_through_the_sum_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(0)
    x, w, a, b = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((2, 3, 5), (4, 5), (2, 5), (4, 2)))
    bias = torch.randn(4, generator=rng, dtype=torch.float64)
    inputs = (x.requires_grad_(), w, bias, a.requires_grad_(), b.requires_grad_(), 1.5, torch.float64)
    assert torch.autograd.gradcheck(_Summed.apply, inputs)
    assert torch.allclose(_Summed.apply(*inputs), x @ (w + 1.5 * b @ a).T + bias)


def test_mixed_precision_is_no_worse(monkeypatch):
    exact, policy, calls = adapted_policy("sd3"), adapted_policy("sd3", autocast=torch.bfloat16), count_of(monkeypatch)
    for each in (exact, policy):
        moved(each)
    v, grads = asked(exact)
    plain, theirs = asked(policy)
    with summed(policy):
        ours, of_ours = asked(policy)
    assert calls
    assert ours.dtype == plain.dtype
    assert (ours - v).norm() < 1.2 * (plain - v).norm()
    flat, other, own = (torch.cat([grad.flatten() for grad in each]) for each in (grads, theirs, of_ours))
    assert (own - flat).norm() < 1.2 * (other - flat).norm()


def test_narrow_merged_and_low_precision_adapters_stay_as_they_are(monkeypatch):
    calls = count_of(monkeypatch)
    policy = adapted_policy("sd3")
    narrow = adapted_policy("sd3", rank=1)  # beside layers of 32 and more
    with summed(narrow):
        asked(narrow)
    with merged(policy.module), summed(policy), torch.no_grad():
        policy.velocity(torch.randn(2, *policy.latent_shape), torch.rand(2), policy.encode(["a key"] * 2))
    policy.module.to(torch.bfloat16)
    with summed(policy):
        assert all("forward" not in vars(layer) for layer in policy.module.modules())
    assert not calls


def test_a_fresh_adapter_is_no_change_and_a_moved_one_is():
    policy = adapted_policy("sd3")
    assert is_fresh(policy.module)
    v, _ = asked(policy)
    names = set(trainable(policy.module))
    moved(policy)
    assert not is_fresh(policy.module)
    with without_adapter(policy.module), torch.no_grad():
        rng = torch.Generator().manual_seed(2)
        x_t, t = torch.randn(6, *policy.latent_shape, generator=rng), torch.rand(6, generator=rng)
        below = policy.velocity(x_t, t, policy.encode(["a red heart", "a key"])[torch.arange(6) % 2])
    assert torch.equal(v, below)
    assert set(trainable(policy.module)) == names
    freeze(policy)
    assert not is_fresh(policy.module)
    assert any(isinstance(layer, LoraLayer) for layer in policy.module.modules())
