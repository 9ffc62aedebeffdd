"""What one forward, one update and one decoding would cost, read off their graphs on the meta device: nothing is computed.

Dimensions: M rows of one forward.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vgrpo.analysis.plan.kernels import gpu_kernels
from vgrpo.analysis.plan.moved import Moved
from vgrpo.models.policy import Policy
from vgrpo.models.weight_sets import adapted, can_merge, trainable

ROWS = 64  # so many that what does not grow with them no longer counts


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Per row of a forward. `moved` is what kernels read from and write to the GPU's memory, in bytes, one after another as
    they are without `--compile`."""

    forward_flops: float
    drawn_bytes: float
    """At most alive at once in a forward as pictures are drawn."""
    drawn_moved: float
    forward_moved: float
    """Of a forward with the adapter beside its layers, as in training."""
    update_bytes: float
    """At most alive at once in a forward and backward: activations, and the gradients that pass through."""
    update_moved: float
    """Of both."""


class Decoding(NamedTuple):
    """Of one image."""

    bytes: int
    flops: float
    moved: float
    image: tuple[int, ...]
    """Its shape [3, H, W]."""


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
    with (
        as_it_draws(policy),
        gpu_kernels(policy.autocast) as attended,
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        Moved() as moved,
    ):
        drawing = peak(policy, lambda: _forward(policy, guidance))
    most, forward, update = _update(policy, guidance)
    return Cost(
        forward_flops=(counter.get_total_flops() + attended.flops) / ROWS,
        drawn_bytes=drawing / ROWS,
        drawn_moved=(moved.num_bytes + attended.num_bytes) / ROWS,
        forward_moved=forward / ROWS,
        update_bytes=most / ROWS,
        update_moved=update / ROWS,
    )


@contextmanager
def as_it_draws(policy: Policy) -> Iterator[None]:
    """The network as `for_drawing` makes it: without adapters beside its layers, and without mixed precision where it is in
    bf16 throughout."""
    network: Any = policy.module
    autocast, has_adapter = policy.autocast, bool(adapted(network))
    if has_adapter:
        network.disable_adapters()
    if autocast == policy.dtype and can_merge(network):
        policy.autocast = None
    try:
        yield
    finally:
        policy.autocast = autocast
        if has_adapter:
            network.enable_adapters()


def update_bytes(policy: Policy, guidance: float) -> float:
    """Of one row, at most alive at once in a forward and backward."""
    return _update(policy, guidance)[0] / ROWS


def _update(policy: Policy, guidance: float) -> tuple[int, int, int]:
    """Of all rows: bytes at most alive at once, bytes that the forward moves, and those that both move."""
    with gpu_kernels(policy.autocast) as attended, gradients_dropped(policy), Moved() as moved:
        forward: list[int] = []

        def update() -> None:
            v = _forward(policy, guidance)
            forward.append(moved.num_bytes + attended.num_bytes)
            v.backward(torch.empty_like(v))

        most = peak(policy, update)
    return most, forward[0], moved.num_bytes + attended.num_bytes


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


def decoding(policy: Policy) -> Decoding:
    shapes: list[tuple[int, ...]] = []

    def decode() -> None:
        shapes.append(tuple(policy.decode(torch.empty(1, *policy.latent_shape, device=policy.device)).shape[1:]))

    with gpu_kernels() as attended, FlopCounterMode(display=False) as counter, Moved() as moved:
        most = peak(policy, decode)
    flops = counter.get_total_flops() + attended.flops
    return Decoding(most, flops, moved.num_bytes + attended.num_bytes, shapes[0])
