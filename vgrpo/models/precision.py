"""Where a job computes, and in which number formats."""

import re
import time
import warnings
from functools import cache
from typing import Literal

import torch

from vgrpo.models.attention import suitable_attention
from vgrpo.support.checks import require
from vgrpo.support.launched import launched

Precision = Literal["auto", "bf16", "fp32"]
FrozenDtype = Literal["auto", "bf16", "fp32", "int8", "nf4"]
"""How weights are kept that are not trained."""


def check_device(name: str, option: str = "device") -> None:
    """Raise ValueError for what is a device on no machine; `option` is the setting's name."""
    if re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:[0-9]{1,3})?", name) is None:
        raise ValueError(f"{option}={name}: must be auto, cpu, cuda, a GPU by its number as cuda:1, mps or xpu")


def device_of(name: str, option: str = "device") -> torch.device:
    """`auto` is cuda where there is one. Raises ValueError for a device that this machine, or this torch, does not have."""
    check_device(name, option)
    if name == "auto":
        return _own_gpu() if torch.cuda.is_available() else torch.device("cpu")
    existing = ["cpu"]
    for kind in ("cuda", "mps", "xpu"):
        module = torch.get_device_module(kind)
        existing += [f"{kind}:{index}" for index in range(module.device_count() if module.is_available() else 0)]
    if name not in existing and f"{name}:0" not in existing:
        raise ValueError(f"{option}={name}: torch finds {', '.join(existing)} here; auto takes the best")
    return torch.device(name)


def _own_gpu() -> torch.device:
    """The current one; of several processes on a machine, as a launcher starts them, each has its own."""
    place, count = launched(), torch.cuda.device_count()
    if place.size == 1:
        return torch.device("cuda")
    require(place.local_rank < count, f"LOCAL_RANK={place.local_rank}: this machine has {count} GPUs, one for each process")
    return torch.device("cuda", place.local_rank)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16. Other CPUs and GPUs imitate it, more slowly than they compute in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def on_bf16_gpu(device: torch.device) -> bool:
    return device.type == "cuda" and has_bf16(device)


def frozen_dtype(weights: FrozenDtype, on_gpu: bool, *, full: bool = False) -> torch.dtype:
    """Of all that is loaded but the autoencoder and what is trained; `on_gpu` is whether a GPU that has bf16 runs it. A CPU
    would have to widen bf16 weights at every use, and full fine-tuning leaves little that is frozen. Beside quantised layers
    it is the type of all the others, and of the arithmetic."""
    return torch.bfloat16 if weights == "bf16" or (weights != "fp32" and on_gpu and not full) else torch.float32


@cache
def faster_on_cpu() -> Precision:
    """In which of the two a small transformer's block trains faster on this CPU, tried once in under a second.

    What the CPU has does not tell: of two with the same instructions for bf16 one was 1.4 times as fast with it, the other 1.3
    times as slow.
    """
    if not has_bf16(torch.device("cpu")):
        return "fp32"
    with torch.random.fork_rng(devices=[]):
        block = torch.nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        tokens = torch.randn(64, 32, 128)  # 64 rows of 32 tokens: a chunk of the bundled model's work
    seconds = {dtype: [_seconds(block, tokens, dtype) for _ in range(4)] for dtype in (None, torch.bfloat16)}
    return "bf16" if min(seconds[torch.bfloat16]) < min(seconds[None]) else "fp32"


def _seconds(block: torch.nn.Module, tokens: torch.Tensor, dtype: torch.dtype | None) -> float:
    """A forward and a backward; the first of several also prepares the kernels."""
    began = time.perf_counter()
    with torch.enable_grad(), suitable_attention(tokens.device, dtype, tokens.shape[1]):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            answer = block(tokens)
        answer.float().sum().backward()
    return time.perf_counter() - began


def chosen(precision: Precision, device: torch.device) -> Precision:
    """What `auto` means on a device: on a CPU what is faster there, on a GPU bf16 if it has it."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return faster_on_cpu()
    return "bf16" if has_bf16(device) else "fp32"


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """None is the weights' own. Warns of a bf16 that the hardware only imitates."""
    if precision == "bf16" and not has_bf16(device):
        warnings.warn(
            f"precision=bf16: this {device.type} only imitates bf16, more slowly than it computes in fp32; "
            "--precision auto takes what is faster",
            stacklevel=2,
        )
    return torch.bfloat16 if chosen(precision, device) == "bf16" else None


def allow_tf32(precision: Precision, device: torch.device) -> None:
    """Let products of fp32 matrices (of the autoencoder, of reward models) round their inputs to TF32's 10 bits on a GPU, which
    is several times as fast. It is torch's switch for the whole process. A run that was asked for fp32 keeps fp32."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
