"""What one forward, one update and one decoding would cost, read off their graphs on the meta device: nothing is computed.

Dimensions: M rows of one forward.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vgrpo.analysis.plan.kernels import gpu_kernels
from vgrpo.models.policy import Policy
from vgrpo.models.weight_sets import trainable

ROWS = 64  # so many that what does not grow with them no longer counts


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Per row of a forward."""

    forward_flops: float
    forward_bytes: float
    """At most alive at once in a forward without gradient."""
    update_bytes: float
    """At most alive at once in a forward and backward: activations, and the gradients that pass through."""


class LiveBytes(TorchDispatchMode):
    """While it is on, counts the bytes of tensors made since: those alive now, and the most there were at once."""

    def __init__(self, known: Iterator[Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self.storages = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self.storages:
            return
        self.storages.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def peak(policy: Policy, job: Callable[[], Any]) -> int:
    """The most bytes that a job has alive at once, beside the pipeline's weights."""
    parts = [part for part in policy.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    weights = (tensor for part in parts for tensor in (*part.parameters(), *part.buffers()))
    with LiveBytes(weights) as live:
        job()
    return live.most


def cost(policy: Policy, guidance: float) -> Cost:
    """Of a policy on the meta device. The network must have what is trained set up: only layers that lead to a gradient keep
    activations."""
    with gpu_kernels(policy.autocast) as attention, torch.no_grad(), FlopCounterMode(display=False) as counter:
        drawing = peak(policy, lambda: _forward(policy, guidance))
    flops = counter.get_total_flops() + sum(attention)
    return Cost(forward_flops=flops / ROWS, forward_bytes=drawing / ROWS, update_bytes=update_bytes(policy, guidance))


def update_bytes(policy: Policy, guidance: float) -> float:
    """Of one row, at most alive at once in a forward and backward."""

    def update() -> None:
        v = _forward(policy, guidance)
        v.backward(torch.empty_like(v))

    with gpu_kernels(policy.autocast), gradients_dropped(policy):
        return peak(policy, update) / ROWS


def _forward(policy: Policy, guidance: float) -> Tensor:
    x = torch.empty(ROWS, *policy.latent_shape, device=policy.device)
    t = torch.full((ROWS,), 0.5, device=policy.device)
    return policy.predict(x, t, policy.blank_text(ROWS), guidance)


@contextmanager
def gradients_dropped(policy: Policy) -> Iterator[None]:
    """Gradients of weights, which are no row's cost, are freed as soon as they are there."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    hooks = [parameter.register_post_accumulate_grad_hook(drop) for parameter in trainable(policy.module).values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def decoding(policy: Policy) -> tuple[int, tuple[int, ...]]:
    """Bytes to decode one image, and the image's shape [3, H, W]."""
    shapes: list[tuple[int, ...]] = []

    def decode() -> None:
        shapes.append(tuple(policy.decode(torch.empty(1, *policy.latent_shape, device=policy.device)).shape[1:]))

    with gpu_kernels():
        return peak(policy, decode), shapes[0]
