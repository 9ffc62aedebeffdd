"""The attention kernel that suits the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def suitable_attention(device: torch.device) -> Iterator[None]:
    """On a CPU, attention as plain products; elsewhere torch's own choice.

    The CPU's fused kernel is made for long sequences: on the sprites model's 30 tokens its bf16 backward takes six times as
    long as two products and a softmax, and a third of a training step.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # a global switch, CPUs included: no detour through fp32
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
