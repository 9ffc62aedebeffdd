"""From a rollout and its advantages to optimiser steps.

Dimensions: B images, K probes per image, D latent dimensions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vgrpo.models import Policy
from vgrpo.objectives import Objective
from vgrpo.types import Cond, Metrics, Probes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Everything an update reads, one row per image: probes, conditions, advantages [B], group ids [B], whose reward
    came back [B] (bool)."""

    probes: Probes
    cond: Cond
    advantage: Tensor
    group: Tensor
    valid: Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Batch":
        return Batch(
            probes=self.probes[rows],
            cond=self.cond[rows],
            advantage=self.advantage[rows],
            group=self.group[rows],
            valid=self.valid[rows],
        )

    def __len__(self) -> int:
        return len(self.advantage)


def velocities(policy: Policy, probes: Probes, cond: Cond, guidance: float) -> Tensor:
    """v [B, K, *D] at every probe, in one forward."""
    x_t, t = probes.x_t(), probes.times()
    num_images, num_probes = t.shape
    rows = torch.arange(num_images, device=t.device).repeat_interleave(num_probes)
    return policy.velocity(x_t.flatten(0, 1), t.flatten(), cond[rows], guidance).unflatten(0, (num_images, num_probes))


@torch.no_grad()
def old_velocities(policy: Policy, batch: Batch, guidance: float, micro_batch_size: int | None) -> list[Tensor]:
    """v under the behaviour weights, one tensor per chunk. The chunks are those of `backward`, because a network's
    low-precision output can depend on the shape of its batch and the first ratio must be exactly 1."""
    return [velocities(policy, chunk.probes, chunk.cond, guidance) for chunk in chunks(batch, micro_batch_size)]


def backward(
    policy: Policy,
    objective: Objective,
    batch: Batch,
    v_old: list[Tensor] | None,
    guidance: float,
    micro_batch_size: int | None,
) -> Metrics:
    """Add the gradient of the mean loss over the batch's valid images; returns per-image metrics [B].

    The batch is cut into chunks of `micro_batch_size` images (None: one chunk). An image's loss does not depend on other
    images and is divided by the count over the whole batch, so the sum over chunks is the exact gradient. Without `v_old`
    the step is the first after the rollout: old and current weights are the same and the old forward is not needed.
    """
    num_valid = max(1, int(batch.valid.sum()))
    collected: list[Metrics] = []
    for index, chunk in enumerate(chunks(batch, micro_batch_size)):
        v = velocities(policy, chunk.probes, chunk.cond, guidance)
        loss, metrics = objective.loss(v, v.detach() if v_old is None else v_old[index], chunk.probes, chunk.advantage)
        (torch.where(chunk.valid, loss, 0.0).sum() / num_valid).backward()
        collected.append(metrics | {"loss": loss.detach()})
    return {name: torch.cat([metrics[name] for metrics in collected]) for name in collected[0]}


def chunks(batch: Batch, size: int | None) -> Iterator[Batch]:
    size = size or len(batch)
    return (batch[start : start + size] for start in range(0, len(batch), size))


def minibatches(batch: Batch, num_groups: int, count: int) -> list[Batch]:
    """Cut a batch into `count` parts of whole groups."""
    part = batch.group * count // num_groups
    return [batch[(part == index).nonzero()[:, 0]] for index in range(count)]


@dataclass(kw_only=True)
class Optimizer:
    """AdamW with linear warm-up, an optional linear decay and gradient clipping over the trainable parameters."""

    inner: torch.optim.AdamW
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
