"""A minibatch's gradient.

Dimensions: B rows (images, or what an algorithm trains on), K points per row, D latent dimensions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vgrpo.core.processes import Processes
from vgrpo.core.types import Batch, Cond, Metrics, Points, Trajectory
from vgrpo.core.widest import widest
from vgrpo.models.in_step import idle
from vgrpo.models.policy import Policy
from vgrpo.objectives.base import Baselines, Objective, WeightSet, distance

StepMetrics = dict[str, Tensor]
"""Of one optimiser step: metrics per row [B], and the gradient's norm []."""
MOST_NUMBERS = 2**26
"""Of a sum of gradients over processes: all of a LoRA, and 256 MB of a whole network."""


def velocities(policy: Policy, points: Points, cond: Cond, guidance: float) -> Tensor:
    """v [B, K, *D] at every point, in one forward. Of no rows nothing is asked: the answer is a leaf of the gradient, as the
    loss of this process must take part in that of the others; where weights are spread its forward and backward must, too."""
    x_t, t = points.x_t(), points.times()
    num_rows, num_points = t.shape
    if num_rows == 0 and policy.spread is not None:
        return idle(policy)[:, None].expand(1, *x_t.shape[1:])[:0]
    if num_rows == 0:
        return x_t.detach().requires_grad_(torch.is_grad_enabled())
    rows = torch.arange(num_rows, device=t.device).repeat_interleave(num_points)
    return policy.velocity(x_t.flatten(0, 1), t.flatten(), cond[rows], guidance).unflatten(0, (num_rows, num_points))


@torch.no_grad()
def frozen_velocities(policy: Policy, batch: Batch[Any], guidance: float, micro_batch_size: int | None) -> Tensor:
    """v [B, K, *D] under the weights now in the model. The chunks are those of `backward`, because a network's
    low-precision output can depend on the shape of its batch and the first ratio must be exactly 1."""
    parts = [batch[rows] for rows in slices(batch, micro_batch_size)]
    return torch.cat([velocities(policy, part.points, part.cond, guidance) for part in parts])


def kept_velocities(batch: Batch[Trajectory]) -> dict[WeightSet, Tensor]:
    """v [B, S, *D] with which the rollout made its steps. Of the same network at the same points, so equal but for rounding."""
    return {"old": batch.points.v}


def backward(
    policy: Policy,
    objective: Objective[Any],
    batch: Batch[Any],
    base: dict[WeightSet, Tensor],
    guidance: float,
    micro_batch_size: int | None,
) -> Metrics:
    """Add the gradient of the mean loss over the batch's valid rows; returns per-row metrics [B].

    The batch is cut into chunks of `micro_batch_size` rows (None: one chunk). A row's loss is divided by the count over the
    whole batch, so the sum over chunks is the exact gradient; where losses couple rows, see `_coupled_backward`. `base` holds
    velocities under other weights. Without "old" in it the step is the first after the rollout: old and current weights are
    the same and the old forward is not needed.
    """
    parts = slices(batch, micro_batch_size)
    if objective.couples_images and len(parts) > 1:
        return _coupled_backward(policy, objective, batch, base, guidance, micro_batch_size)
    num_valid = _num_valid(batch)
    collected: list[Metrics] = []
    for index, rows in enumerate(parts, 1):
        chunk = batch[rows]
        v = velocities(policy, chunk.points, chunk.cond, guidance)
        known = {name: value[rows] for name, value in base.items()}
        loss, metrics = _loss(objective, v, known, chunk)
        _sum_copies(policy, last=index == len(parts))
        (torch.where(chunk.valid, loss, 0.0).sum() / num_valid).backward()
        collected.append(metrics | {"loss": loss.detach()})
    return {name: torch.cat([metrics[name] for metrics in collected]) for name in collected[0]}


def _coupled_backward(
    policy: Policy,
    objective: Objective[Any],
    batch: Batch[Any],
    base: dict[WeightSet, Tensor],
    guidance: float,
    micro_batch_size: int | None,
) -> Metrics:
    """The exact gradient of a loss that couples images, in chunks: all velocities without gradient, the loss's derivative by
    them, then one chunk after another again, back-propagating that derivative."""
    num_valid = _num_valid(batch)
    v = frozen_velocities(policy, batch, guidance, micro_batch_size).requires_grad_()
    loss, metrics = _loss(objective, v, base, batch)
    (torch.where(batch.valid, loss, 0.0).sum() / num_valid).backward()
    assert v.grad is not None
    parts = slices(batch, micro_batch_size)
    for index, rows in enumerate(parts, 1):
        chunk = batch[rows]
        _sum_copies(policy, last=index == len(parts))
        velocities(policy, chunk.points, chunk.cond, guidance).backward(v.grad[rows])
    return metrics | {"loss": loss.detach()}


def _sum_copies(policy: Policy, *, last: bool) -> None:
    if policy.spread is not None:
        policy.spread.sum_copies(last=last)


def _num_valid(batch: Batch[Any]) -> int:
    """Rows of the minibatch that count, over all processes: the mean is over all of them, however they are shared out."""
    return max(1, int(batch.processes.total(batch.valid.sum())))


def _loss(objective: Objective[Any], v: Tensor, base: Baselines, batch: Batch[Any]) -> tuple[Tensor, Metrics]:
    """The algorithm's loss and metrics, and how far the velocities are from the untrained model's, where those are known."""
    loss, metrics = objective.loss(v, _with_current(v, base), batch)
    if "ref" in base:
        metrics = metrics | {"ref_kl": distance(v.detach(), base["ref"])}
    return loss, metrics


def _with_current(v: Tensor, base: Baselines) -> dict[WeightSet, Tensor]:
    """The baselines; where "old" is left out, it is the current answer."""
    known: dict[WeightSet, Tensor] = {"old": v.detach()}
    return known | dict(base)


def slices(batch: Batch[Any], size: int | None) -> list[slice]:
    """The rows of each forward: as many forwards in every process, so that those of a spread network and losses that couple
    images meet. Some are of no rows where other processes have more."""
    size = size or max(1, len(batch))
    count = batch.processes.most(max(1, -(-len(batch) // size)))
    return [slice(index * size, (index + 1) * size) for index in range(count)]


def minibatches(batch: Batch[Any], num_groups: int, count: int) -> list[Batch[Any]]:
    """Cut a batch into up to `count` parts of whole groups; a part in which nothing is left to train on, in any process, is no
    part."""
    part = batch.group * count // num_groups
    parts = [batch[(part == index).nonzero()[:, 0]] for index in range(count)]
    sizes = batch.processes.total(torch.tensor([len(rows) for rows in parts])).tolist()
    return [rows for rows, size in zip(parts, sizes, strict=True) if size > 0]


def gathered(metrics: Metrics, batch: Batch[Any]) -> Metrics:
    """Metrics [B] of the rows of all processes, from those of the rows of `batch`."""
    if batch.processes.size == 1:
        return metrics
    columns = torch.stack([metrics[name] for name in sorted(metrics)], 1)
    table = batch.processes.gather(columns.to(widest(columns.device)), batch.group)
    return dict(zip(sorted(metrics), table.float().unbind(1), strict=True))


def sum_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Over all processes, in place: flat, in as few sums as pieces of MOST_NUMBERS take. Those of spread weights are sums
    since the backward."""
    if processes.size == 1:
        return
    piece: list[nn.Parameter] = []
    for parameter in parameters:
        if isinstance(parameter, DTensor):
            continue
        if piece and sum(p.numel() for p in piece) + parameter.numel() > MOST_NUMBERS:
            _sum_piece(piece, processes)
            piece = []
        piece.append(parameter)
    if piece:
        _sum_piece(piece, processes)


def _sum_piece(piece: list[nn.Parameter], processes: Processes) -> None:
    """A process without rows has no gradients, which are zeros to the others."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in piece]
    flat = processes.total(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, gradient in zip(piece, flat.split([p.numel() for p in piece]), strict=True):
        parameter.grad = gradient.view_as(parameter)
