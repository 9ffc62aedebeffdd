"""The attention kernel that suits the device, or that was chosen."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vgrpo.support.spelling import hint

SHORT = 128
"""Tokens, up to which attention in bf16 on a CPU is faster as plain products."""


def suitable_attention(device: torch.device, dtype: torch.dtype | None, num_tokens: int) -> AbstractContextManager[None]:
    """On a CPU short sequences in bf16 as `short_attention`; elsewhere torch's own choice.

    The CPU's fused kernel is made for long sequences. On 24 tokens its bf16 backward takes 1.5 times as long as two products
    and a softmax, on 270 it takes three quarters. In fp32 it is as fast on 24 tokens, and faster on all longer ones.
    """
    short = device.type == "cpu" and dtype is torch.bfloat16 and num_tokens <= SHORT
    return short_attention() if short else nullcontext()


@contextmanager
def short_attention() -> Iterator[None]:
    """Attention as plain products.

    Torch has switches for the whole process only, these two among them. Both are put back at the end, also after an
    exception, and blocks may be nested; a second thread that computes meanwhile sees them too.
    """
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # of CPUs too, for all its name: no detour through fp32
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def choose_attention(network: Any, name: str) -> None:
    """Let a network compute attention by one of diffusers' back ends, after a trial on its device.

    Raises ValueError if diffusers has none of that name, if it cannot run here, or if the architecture has no choice.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    known = [backend.value for backend in AttentionBackendName]
    if name not in known:
        raise ValueError(f"attention={name}: {hint(name, known)} {_usable(network, known)}")
    processors = [getattr(module, "processor", None) for module in network.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        raise ValueError(f"attention={name}: a {type(network).__name__} leaves no choice of its attention; leave it out")
    problem = _problem(network, name)
    if problem is not None:
        raise ValueError(f"attention={name} cannot be used: {problem} {_usable(network, known)}")
    default, _ = _AttentionBackendRegistry.get_active_backend()
    network.set_attention_backend(name)
    _AttentionBackendRegistry.set_active_backend(default)  # diffusers sets it for all models of the process besides


def _problem(network: Any, name: str) -> str | None:
    """Why a back end cannot attend in half precision on the network's device, and back-propagate; None if it can."""
    from diffusers.models import attention_dispatch as dispatch

    backend = dispatch.AttentionBackendName(name)
    device = next(network.parameters()).device
    tokens = torch.zeros(1, 16, 2, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    try:
        dispatch._check_attention_backend_requirements(backend)
        dispatch._maybe_download_kernel_for_backend(backend)
        with torch.enable_grad():
            dispatch.dispatch_attention_fn(tokens, tokens, tokens, backend=backend).sum().backward()
    except (RuntimeError, ValueError, ImportError, OSError, AssertionError, NotImplementedError) as error:
        return f"{error}".split("\n")[0].rstrip(".") + "."
    return None


def _usable(network: Any, known: list[str]) -> str:
    """What would do here, without downloading kernels or compiling any."""
    names = [name for name in known if not name.endswith("_hub") and name != "flex" and _problem(network, name) is None]
    return f"Usable here: {', '.join(names)}."
