"""Adapters that are wide beside their layer, trained as one product with the sum of both.

A LoRA's layer is three products, forward and backward. With W the layer's weights, the sum W + s B A makes one of them; its
gradient G, which is as large as W, gives those of A and B: s B^T G and s G A^T. Of a layer of 1,500 numbers and a rank of 32
that is more arithmetic than it saves, but of one of 128 it is less, and a third of the calls.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear

from vgrpo.models.compiled import is_compiled
from vgrpo.models.policy import Policy
from vgrpo.models.sharding import is_spread

GAIN = 2.0
"""How much more arithmetic the sum may take, as calls and memory count, too; measured on a CPU, on layers of 128 by 128 to
768 numbers."""


@contextmanager
def summed(policy: Policy) -> Iterator[None]:
    """Compute the layers for which it pays so, in forwards and in their backwards. Their own weights are fp32, of any value, so
    with mixed precision the rounded sum is right on average, for a young adapter, too; bf16 weights would round it away."""
    layers = [] if is_spread(policy.module) or is_compiled(policy.module) else _plain(policy)
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward, policy.autocast or torch.float32)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _plain(policy: Policy) -> list[Any]:
    """fp32 layers with one adapter that is a plain LoRA."""
    layers: list[Any] = [layer for layer in policy.module.modules() if isinstance(layer, LoraLayer)]
    return [layer for layer in layers if type(layer.get_base_layer()) is nn.Linear and _is_plain(layer)]


def _is_plain(layer: Any) -> bool:
    names = layer.active_adapters
    if len(names) != 1 or layer.merged or layer.disable_adapters or getattr(layer, "use_dora", {}).get(names[0]):
        return False
    down, up = layer.lora_A[names[0]], layer.lora_B[names[0]]
    weights = (layer.get_base_layer().weight, down.weight, up.weight)
    return (
        isinstance(layer.lora_dropout[names[0]], nn.Identity)
        and down.bias is None
        and up.bias is None
        and all(type(weight.data) is Tensor and weight.dtype == torch.float32 for weight in weights)  # none that is quantised
    )


def _forward(layer: Any, plain: Callable[..., Tensor], dtype: torch.dtype, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    base, name = layer.get_base_layer(), layer.active_adapters[0]
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    num_out, num_in = base.weight.shape
    rows, rank = x.numel() // num_in, len(down)
    if (rows + 3 * rank) * num_in * num_out > GAIN * 3 * rows * rank * (num_in + num_out):
        return plain(x, *args, **kwargs)
    answer: Tensor = _Summed.apply(x, base.weight, base.bias, down, up, layer.scaling[name], dtype)
    return answer


class _Summed(torch.autograd.Function):
    """x [..., I] times W + s B A, of W [O, I], A [R, I] and B [O, R], plus a bias [O] or None. The sum is one of fp32, the
    products with it are of `dtype`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float, dtype: torch.dtype
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            total, low = torch.addmm(weight, up, down, alpha=scale).to(dtype), x.to(dtype)
            ctx.save_for_backward(low, total, down, up)
            ctx.scale, ctx.dtype = scale, x.dtype
            return linear(low, total, None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, total, down, up = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        of_x = (grad @ total).view_as(x).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        of_total = (grad.t() @ x.flatten(0, -2)).to(down.dtype).mul_(ctx.scale)
        return of_x, None, None, up.t() @ of_total, of_total @ down.t(), None, None
