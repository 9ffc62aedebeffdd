"""From a rollout and its advantages to optimiser steps.

Dimensions: B images, K probes per image, D latent dimensions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vgrpo.core.types import Batch, Cond, Metrics, Path, Probes
from vgrpo.models.policy import Policy
from vgrpo.objectives.base import Baselines, Objective, WeightSet


def velocities(policy: Policy, probes: Probes | Path, cond: Cond, guidance: float) -> Tensor:
    """v [B, K, *D] at every probe, in one forward."""
    x_t, t = probes.x_t(), probes.times()
    num_images, num_probes = t.shape
    rows = torch.arange(num_images, device=t.device).repeat_interleave(num_probes)
    return policy.velocity(x_t.flatten(0, 1), t.flatten(), cond[rows], guidance).unflatten(0, (num_images, num_probes))


@torch.no_grad()
def frozen_velocities(policy: Policy, batch: Batch, guidance: float, micro_batch_size: int | None) -> Tensor:
    """v [B, K, *D] under the weights now in the model. The chunks are those of `backward`, because a network's
    low-precision output can depend on the shape of its batch and the first ratio must be exactly 1."""
    parts = [velocities(policy, chunk.probes, chunk.cond, guidance) for chunk in chunks(batch, micro_batch_size)]
    return torch.cat(parts)


def backward(
    policy: Policy,
    objective: Objective,
    batch: Batch,
    base: dict[WeightSet, Tensor],
    guidance: float,
    micro_batch_size: int | None,
) -> Metrics:
    """Add the gradient of the mean loss over the batch's valid images; returns per-image metrics [B].

    The batch is cut into chunks of `micro_batch_size` images (None: one chunk). An image's loss is divided by the count over
    the whole batch, so the sum over chunks is the exact gradient; where losses couple images, see `_coupled_backward`.
    `base` holds velocities under other weights. Without "old" in it the step is the first after the rollout: old and current
    weights are the same and the old forward is not needed.
    """
    if objective.couples_images and micro_batch_size is not None and micro_batch_size < len(batch):
        return _coupled_backward(policy, objective, batch, base, guidance, micro_batch_size)
    num_valid = max(1, int(batch.valid.sum()))
    collected: list[Metrics] = []
    for rows, chunk in zip(_slices(batch, micro_batch_size), chunks(batch, micro_batch_size), strict=True):
        v = velocities(policy, chunk.probes, chunk.cond, guidance)
        known = {name: value[rows] for name, value in base.items()}
        loss, metrics = objective.loss(v, _with_current(v, known), chunk)
        (torch.where(chunk.valid, loss, 0.0).sum() / num_valid).backward()
        collected.append(metrics | {"loss": loss.detach()})
    return {name: torch.cat([metrics[name] for metrics in collected]) for name in collected[0]}


def _coupled_backward(
    policy: Policy,
    objective: Objective,
    batch: Batch,
    base: dict[WeightSet, Tensor],
    guidance: float,
    micro_batch_size: int,
) -> Metrics:
    """The exact gradient of a loss that couples images, in chunks: all velocities without gradient, the loss's derivative by
    them, then one chunk after another again, back-propagating that derivative."""
    v = frozen_velocities(policy, batch, guidance, micro_batch_size).requires_grad_()
    loss, metrics = objective.loss(v, _with_current(v, base), batch)
    (torch.where(batch.valid, loss, 0.0).sum() / max(1, int(batch.valid.sum()))).backward()
    assert v.grad is not None
    for rows, chunk in zip(_slices(batch, micro_batch_size), chunks(batch, micro_batch_size), strict=True):
        velocities(policy, chunk.probes, chunk.cond, guidance).backward(v.grad[rows])
    return metrics | {"loss": loss.detach()}


def _with_current(v: Tensor, base: Baselines) -> dict[WeightSet, Tensor]:
    """The baselines; where "old" is left out, it is the current answer."""
    known: dict[WeightSet, Tensor] = {"old": v.detach()}
    return known | dict(base)


def _slices(batch: Batch, size: int | None) -> list[slice]:
    size = size or len(batch)
    return [slice(start, start + size) for start in range(0, len(batch), size)]


def chunks(batch: Batch, size: int | None) -> Iterator[Batch]:
    return (batch[rows] for rows in _slices(batch, size))


def minibatches(batch: Batch, num_groups: int, count: int) -> list[Batch]:
    """Cut a batch into up to `count` parts of whole groups; a part in which nothing is left to train on is no part."""
    part = batch.group * count // num_groups
    parts = [batch[(part == index).nonzero()[:, 0]] for index in range(count)]
    return [rows for rows in parts if len(rows) > 0]


@dataclass(kw_only=True)
class Optimizer:
    """AdamW with linear warm-up, an optional linear decay and gradient clipping over the trainable parameters."""

    inner: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    lr: float
    num_warmup_steps: int
    max_grad_norm: float
    num_decay_steps: int | None = None  # None keeps the learning rate
    num_steps: int = 0
    after_step: Callable[[], None] = lambda: None

    def step(self) -> float:
        """Apply the gradient; returns its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.num_steps += 1
        factor = min(1.0, self.num_steps / max(1, self.num_warmup_steps))
        if self.num_decay_steps is not None:
            factor *= max(0.1, 1 - 0.9 * self.num_steps / self.num_decay_steps)
        for group in self.inner.param_groups:
            group["lr"] = self.lr * factor
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        self.after_step()
        return norm.item()
