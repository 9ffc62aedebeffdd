"""A frozen network whose linear layers are kept in 8 bits, by torchao, or in 4 (NF4, arXiv:2305.14314), by bitsandbytes through
diffusers. The adapter beside them stays fp32, and nothing is ever merged into them.

In 8 bits each row of weights has a scale of its own, and a layer computes in the network's own type: no kernel is needed that
only some devices have, and no number leaves the range of bf16, as it can where 8-bit layers compute in fp16 (LLM.int8()).
"""

import importlib.util
from typing import Any

import torch

from vgrpo.models.quiet import without_import_chatter

LINEAR_BYTES = {"int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Per weight of a linear layer; nf4 has an fp32 scale for every block of 64."""
PACKAGES = {"int8": "torchao", "nf4": "bitsandbytes"}


def is_quantised(weights: str) -> bool:
    return weights in LINEAR_BYTES


def loading_options(weights: str, dtype: torch.dtype, device: str | torch.device) -> dict[str, Any]:
    """What `from_pretrained` is told of a network that computes in `dtype`: layers in 4 bits come to the device as they are
    read."""
    if weights != "nf4":
        return {}
    return {"quantization_config": _nf4(dtype), "device_map": {"": device}}


def _nf4(dtype: torch.dtype) -> Any:
    from diffusers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def to_int8(network: Any, device: str | torch.device) -> None:
    """Round a loaded network's linear layers, each on the device, one after another, and move all there."""
    with without_import_chatter():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

    network.requires_grad_(False)
    quantize_(network, Int8WeightOnlyConfig(), device=device)
    network.to(device)
    network.is_quantized = True  # as diffusers says it of those that it quantises


def check_quantised(weights: str, *, full: bool = False) -> None:
    """Raise ValueError if this machine cannot quantise, or if the whole network is trained, before anything is loaded."""
    if not is_quantised(weights):
        return
    if full:
        raise ValueError(f"memory.weights={weights}: with --finetune full nothing is frozen; leave it out, or train a LoRA")
    package = PACKAGES[weights]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f'memory.weights={weights} needs {package}: pip install "vgrpo[{package}]", or take bf16')
    if weights != "nf4":
        return
    from diffusers.quantizers import DiffusersAutoQuantizer

    try:
        DiffusersAutoQuantizer.from_config(_nf4(torch.bfloat16)).validate_environment()
    except (RuntimeError, ImportError) as error:
        raise ValueError(f"memory.weights={weights}: {error} Take int8, bf16 or fp32 here") from error
