"""Gradients of the algorithms that stop some of them: against derivatives taken by hand, in fp64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.formulas import crd, make, numbers

from vgrpo.objectives import CRD, DGPO, DiffusionNFT

MEMBERS = ([0, 1], [2, 3, 4, 5])


def clipped(a):
    return min(max(a / 10 + 0.5, 0), 1)


def nft(o, a, x_t, t, eps, x_0, v, old, ref):
    grad = o.kl_weight * 2 * (v - ref) / v[0].size
    for i, k in np.ndindex(t.shape):
        for share, sign, w in (
            (clipped(a[i]), 1, o.beta * v[i, k] + (1 - o.beta) * old[i, k]),
            (1 - clipped(a[i]), -1, (1 + o.beta) * old[i, k] - o.beta * v[i, k]),
        ):
            d = x_t[i, k] - t[i, k] * w - x_0[i, k]
            per_w = -2 * t[i, k] * d / d.size / np.mean(abs(d))  # the mean absolute value is held fixed
            grad[i, k] += 5 / o.beta / t.shape[1] * share * sign * o.beta * per_w
    return grad


def dgpo(o, a, x_t, t, eps, x_0, v, old, ref):
    grad, u = np.zeros_like(v), eps - x_0
    for members in MEMBERS:
        for k in range(t.shape[1]):
            gain = {i: np.mean((v[i, k] - u[i, k]) ** 2) - np.mean((ref[i, k] - u[i, k]) ** 2) for i in members}
            weight = 1 / (1 + math.exp(-sum(a[i] * o.beta * gain[i] for i in members) / len(members)))  # held fixed
            for i in members:
                grad[i, k] = weight * a[i] * 2 * (v[i, k] - u[i, k]) / v[i, k].size / t.shape[1]
    return grad


def crd_gradient(o, a, x_t, t, eps, x_0, v, old, ref):
    u, external = eps - x_0, np.array([clipped(x) for x in a])

    def error(w):
        return (w - u), abs(w - u).mean(2)

    (d, scale), (d_old, scale_old) = error(v), error(old)
    implicit = -((d**2).mean(2) / scale - (d_old**2).mean(2) / scale_old).mean(1)
    per_v = -2 * d / d.shape[2] / scale[..., None] / t.shape[1]  # of an image's own implicit reward
    grad = o.kl_weight * 2 * (v - ref) / v[0].size
    signs = [0] if o.centering == "uniform" else [1, -1]
    for sign in signs:
        weight = np.exp(sign * external / o.temperature)
        weight /= weight.sum()
        centred = o.beta * (implicit - weight @ implicit) - (external - weight @ external)
        per_implicit = 10 * (centred - centred.sum() * weight) / len(signs)
        grad += per_implicit[:, None, None] * per_v
    return grad


@pytest.mark.parametrize(
    ("objective", "formula"),
    [
        (DiffusionNFT(), nft),
        (DiffusionNFT(beta=0.1, kl_weight=0.1), nft),
        (DGPO(beta=10), dgpo),
        (CRD(), crd_gradient),
        (CRD(centering="softmax", beta=2.0), crd_gradient),
    ],
    ids=["nft", "nft beta 0.1", "dgpo", "crd", "crd softmax"],
)
def test_gradient_is_the_one_by_hand(objective, formula):
    batch, v, base = make(objective, spread=0.5)
    grad = torch.autograd.grad(objective.loss(v, base, batch)[0].sum(), v)[0].flatten(2).numpy()
    expected = formula(objective, batch.advantage.double().tolist(), *numbers(batch, v, base))
    assert np.allclose(grad, expected, rtol=1e-4, atol=1e-6)


def test_crd_centres_on_images_whose_reward_is_known():
    objective, failed = CRD(centering="softmax"), torch.arange(6) == 5
    batch, v, base = make(objective)
    batch = replace(batch, valid=~failed, advantage=torch.where(failed, 40.0, batch.advantage))
    loss = objective.loss(v, base, batch)[0].detach().numpy()
    expected = crd(objective, batch.advantage.double().tolist()[:5], *(x[:5] for x in numbers(batch, v, base)))
    assert np.allclose(loss[:5], expected, rtol=1e-4)
