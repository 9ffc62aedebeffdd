"""Text encoders that visit a GPU one at a time: the largest of a pipeline's is the most that is there at once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only


@contextmanager
def in_turn(encoders: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Each encoder comes to the device when it is called, with what it is called with, and is back on the CPU afterwards: one
    of several at once, a single one in the end."""
    alone = len(encoders) == 1

    def come(encoder: nn.Module, args: Any, kwargs: Any) -> Any:
        encoder.to(device)
        return tree_map_only(torch.Tensor, lambda part: part.to(device), (args, kwargs))

    def go(encoder: nn.Module, *_: Any) -> None:
        encoder.to("cpu")

    with ExitStack() as stack:
        for encoder in encoders:
            stack.callback(encoder.register_forward_pre_hook(come, with_kwargs=True).remove)
            if alone:
                stack.callback(encoder.to, "cpu")
            else:
                stack.callback(encoder.register_forward_hook(go, always_call=True).remove)
        yield
