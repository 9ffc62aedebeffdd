"""Weights that are no numbers: a NaN or an infinite one makes every image of a model noise, or black, and stays."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def check_finite(pipeline: Any) -> None:
    """Raise ValueError if a number of a pipeline's networks is NaN or infinite, naming the part and the tensor."""
    for part, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            name = first_not_finite(module.state_dict().items())
            if name is not None:
                raise ValueError(
                    f"the weights of {part} hold NaN or infinite numbers, first in {name}; download the model again, or "
                    "take an earlier checkpoint"
                )


@torch.no_grad()
def first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with such a number.

    A sum is NaN or infinite if one of its terms is, and needs no copy of the tensor; the device is waited for once.
    A sum of finite numbers may be infinite too, so a suspect is looked at number by number.
    """
    plain = (pair for pair in tensors if type(pair[1]) is Tensor)  # layers in 8 bits hold whole numbers
    floats = [(name, tensor) for name, tensor in plain if tensor.is_floating_point() and not tensor.is_meta]
    if not floats:
        return None
    device = floats[0][1].device
    sums = torch.stack([tensor.sum(dtype=torch.float32).to(device) for _, tensor in floats]).isfinite().tolist()
    suspects = [pair for pair, fine in zip(floats, sums, strict=True) if not fine]
    return next((name for name, tensor in suspects if not tensor.isfinite().all()), None)
