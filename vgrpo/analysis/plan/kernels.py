"""What a GPU would do in place of what torch does on the meta device: fused attention, and mixed precision.

Torch's own autocast does not know the meta device, and neither does a fused kernel. Both decide which tensors a backward pass
keeps, and in which type.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

functional: Any = torch.nn.functional
LOW = [(functional, name) for name in ("linear", "conv1d", "conv2d", "conv3d")] + [(torch, "matmul"), (torch, "bmm")]
HIGH = [(functional, "layer_norm"), (functional, "group_norm")]


@dataclass
class Attended:
    """What attention came to so far, which no dispatched operator shows."""

    flops: float = 0.0
    """Of forwards."""
    num_kernels: int = 0
    num_bytes: int = 0
    """Read and written, backwards included."""

    def add(self, *tensors: Tensor) -> None:
        self.num_kernels += 1
        self.num_bytes += sum(tensor.nbytes for tensor in tensors)


class _FusedAttention(torch.autograd.Function):
    """Keeps for the backward what a fused kernel keeps: inputs, output and one number per query."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, so_far: Attended) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        ctx.so_far = so_far
        so_far.add(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, _ = ctx.saved_tensors
        ctx.so_far.add(q, k, v, out, grad, q, k, v)
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None


@contextmanager
def gpu_kernels(dtype: torch.dtype | None = None) -> Iterator[Attended]:
    """Attention without computing it, and where `dtype` is given, products in it and norms in fp32, as `torch.autocast("cuda",
    dtype)` does it for what networks here call. Yields what attention comes to."""
    so_far = Attended()

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        if dtype is not None:
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        rows = query.shape[:-2].numel()
        so_far.flops += 4.0 * rows * query.shape[-2] * key.shape[-2] * query.shape[-1]
        result: Tensor = _FusedAttention.apply(query, key, value, so_far)
        return result

    with ExitStack() as stack:
        stack.enter_context(patch.object(functional, "scaled_dot_product_attention", attention))
        for places, kind in ((LOW, dtype), (HIGH, torch.float32)):
            for place, name in places if dtype is not None else ():
                stack.enter_context(patch.object(place, name, _in(kind, getattr(place, name))))
        yield so_far


def _in(dtype: torch.dtype | None, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function with its floating-point tensors as one type."""

    def call(*args: Any, **kwargs: Any) -> Tensor:
        args, kwargs = tree_map_only(Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, (args, kwargs))
        return function(*args, **kwargs)

    return call
