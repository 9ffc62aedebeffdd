"""Published formulas of the regressions to a target and of EPG, PEPG and PAR, in fp64: losses of six images as functions of v
[6, K, D], of which what a paper holds fixed is computed from `fixed`, the same numbers."""

import math

import numpy as np

from helpers.formulas import GROUP


def mean_square(x):
    return np.mean(x**2)


def ram(o, a, x_t, t, eps, x_0, v, fixed, old, ref):
    losses = []
    for i in range(6):
        points = [ref[i, k] + o.reward_multiplier * a[i] * ((eps[i, k] - x_0[i, k]) - old[i, k]) for k in range(t.shape[1])]
        # Divided by m, which is a deviation.
        losses.append(np.mean([mean_square(v[i, k] - points[k]) for k in range(t.shape[1])]) / o.reward_multiplier)
    return losses


def flow_awr(o, a, x_t, t, eps, x_0, v, fixed, old, ref):
    losses = []
    for i in range(6):
        members = [j for j in range(6) if GROUP[j] == GROUP[i]]
        strength = math.exp(a[i]) / np.mean([math.exp(a[j]) for j in members]) - 1
        pulls = [mean_square(v[i, k] - (old[i, k] + strength * (eps[i, k] - x_0[i, k] - old[i, k]))) for k in range(t.shape[1])]
        losses.append(np.mean(pulls) + o.kl_weight * mean_square(v[i] - ref[i]))
    return losses


def advantage_flow(o, a, x_t, t, eps, x_0, v, fixed, old, ref):
    """As published: three distances of the x_0 prediction."""
    losses = []
    for i in range(6):
        total, strength = 0.0, min(max(a[i], -1), 1)
        gamma = 1 - strength if o.old_weight is None else o.old_weight
        for k in range(t.shape[1]):
            x_hat, x_old, x_ref = (x_t[i, k] - t[i, k] * w[i, k] for w in (v, old, ref))
            total += strength * mean_square(x_hat - x_0[i, k]) + gamma * mean_square(x_hat - x_old)
            total += o.kl_weight * mean_square(x_hat - x_ref)
        losses.append(total / t.shape[1])
    return losses


def advantage_flow_constant(o, a, x_t, t, eps, x_0, v, fixed, old, ref):
    """What completing the square leaves out of it."""
    losses = []
    for i in range(6):
        strength = min(max(a[i], -1), 1)
        gamma = 1 - strength if o.old_weight is None else o.old_weight
        gaps = [mean_square(t[i, k] * (eps[i, k] - x_0[i, k] - old[i, k])) for k in range(t.shape[1])]
        losses.append(strength * gamma / (strength + gamma) * np.mean(gaps))
    return losses


def rvm(o, a, x_t, t, eps, x_0, v, fixed, old, ref):
    losses = []
    for i in range(6):
        total = 0.0
        for k in range(t.shape[1]):
            g = a[i] / 10 * (fixed[i, k] - (eps[i, k] - x_0[i, k])) + o.kl_weight * (fixed[i, k] - ref[i, k])
            total += mean_square(v[i, k] - (fixed[i, k] - g)) / 2
        losses.append(total / t.shape[1])
    return losses


def epg(o, a, x_t, t, eps, x_0, v, fixed, old, ref):
    def surrogate(w, held, i, k):
        error, scale = (x_t[i, k] - t[i, k] * each[i, k] - x_0[i, k] for each in (w, held))
        return -mean_square(error) / max(np.mean(abs(scale)), 1e-5)

    losses = []
    for i in range(6):
        total = 0.0
        for k in range(t.shape[1]):
            s, s_fixed, s_old = surrogate(v, fixed, i, k), surrogate(fixed, fixed, i, k), surrogate(old, old, i, k)
            change, strength = s_fixed - s_old, a[i] / 10
            rho = math.exp(change)
            total += {
                "epg": -rho * strength * s,
                "pepg": -rho * (strength - change) * s,
                "par": rho / 2 * (strength - (s - s_old)) ** 2,
            }[o.mode]
        losses.append(total / t.shape[1] + o.kl_weight * mean_square(v[i] - ref[i]))
    return losses
