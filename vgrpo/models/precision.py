"""Where a job computes, and in which number formats."""

import re
import warnings
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]
FrozenDtype = Literal["auto", "bf16", "fp32"]
"""How weights are kept that are not trained."""


def check_device(name: str, option: str = "device") -> None:
    """Raise ValueError for what is a device on no machine; `option` is the setting's name."""
    if re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:[0-9]{1,3})?", name) is None:
        raise ValueError(f"{option}={name}: must be auto, cpu, cuda, a GPU by its number as cuda:1, mps or xpu")


def device_of(name: str, option: str = "device") -> torch.device:
    """`auto` is cuda where there is one. Raises ValueError for a device that this machine, or this torch, does not have."""
    check_device(name, option)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    existing = ["cpu"]
    for kind in ("cuda", "mps", "xpu"):
        module = torch.get_device_module(kind)
        existing += [f"{kind}:{index}" for index in range(module.device_count() if module.is_available() else 0)]
    if name not in existing and f"{name}:0" not in existing:
        raise ValueError(f"{option}={name}: torch finds {', '.join(existing)} here; auto takes the best")
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16. Other CPUs and GPUs imitate it, more slowly than they compute in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def on_bf16_gpu(device: torch.device) -> bool:
    return device.type == "cuda" and has_bf16(device)


def frozen_dtype(weights: FrozenDtype, on_gpu: bool, *, full: bool = False) -> torch.dtype:
    """Of all that is loaded but the autoencoder and what is trained; `on_gpu` is whether a GPU that has bf16 runs it. A CPU
    would have to widen bf16 weights at every use, and full fine-tuning leaves little that is frozen."""
    return torch.bfloat16 if weights == "bf16" or (weights == "auto" and on_gpu and not full) else torch.float32


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """None is the weights' own. Warns of a bf16 that the hardware only imitates."""
    found = has_bf16(device)
    if precision == "bf16" and not found:
        warnings.warn(
            f"precision=bf16: this {device.type} only imitates bf16, more slowly than it computes in fp32; "
            "--precision auto takes what it has",
            stacklevel=2,
        )
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and found) else None
