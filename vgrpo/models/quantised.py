"""A frozen network whose linear layers are kept in 8 bits (LLM.int8(), arXiv:2208.07339) or in 4 (NF4, arXiv:2305.14314), by
bitsandbytes through diffusers. The adapter beside them stays fp32, and nothing is ever merged into them."""

import importlib.util
import logging
from typing import Any

import torch

LINEAR_BYTES = {"int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Per weight of a linear layer; nf4 has an fp32 scale for every block of 64."""


def is_quantised(weights: str) -> bool:
    return weights in LINEAR_BYTES


def quantisation(weights: str, dtype: torch.dtype) -> Any:
    """diffusers' settings for a network that computes in `dtype`."""
    from diffusers import BitsAndBytesConfig

    if weights == "int8":
        # Its layers compute in fp16 and say so at every call.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def check_quantised(weights: str, *, full: bool = False) -> None:
    """Raise ValueError if this machine cannot quantise, or if the whole network is trained, before anything is loaded."""
    if not is_quantised(weights):
        return
    if full:
        raise ValueError(f"memory.weights={weights}: with --finetune full nothing is frozen; leave it out, or train a LoRA")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f'memory.weights={weights} needs bitsandbytes: pip install "vgrpo[bitsandbytes]", or take bf16')
    from diffusers.quantizers import DiffusersAutoQuantizer

    try:
        DiffusersAutoQuantizer.from_config(quantisation(weights, torch.bfloat16)).validate_environment()
    except (RuntimeError, ImportError) as error:
        raise ValueError(f"memory.weights={weights}: {error} Take bf16 or fp32 here") from error
