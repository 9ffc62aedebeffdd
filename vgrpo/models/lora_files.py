"""A saved LoRA's file, checked before a model is loaded for it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vgrpo.models.finite import first_not_finite

WEIGHTS = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
"""Where diffusers keeps rank and alpha, as JSON, in the file's header."""


def lora_file(folder: Path, option: str) -> Path:
    """The weights in a LoRA's folder. Raises FileNotFoundError if it holds none; `option` is how the user named it."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{option} {folder}: no {WEIGHTS} in it; give a run's lora/ folder")
    return path


def check_lora_file(path: Path, option: str) -> None:
    """Raise ValueError if the file is damaged, holds no tensors, or its settings are none."""
    try:
        with safe_open(path, "pt") as file:  # compares the file's size with what its header says
            names = list(file.keys())
    except (SafetensorError, RecursionError) as error:
        raise _damaged(path, option, str(error)) from error
    if not names:
        raise _damaged(path, option, "it holds no tensors")
    read_settings(path, option)


def read_settings(path: Path, option: str) -> dict[str, Any]:
    """Rank, alpha and the rest, as `transformer.r`; nothing if the file says none. Raises ValueError if they are no JSON
    object, or if they name a module: peft would import it."""
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(METADATA, "{}")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, option, f"its {METADATA} is not JSON") from error
    if not isinstance(settings, dict):
        raise _damaged(path, option, f"its {METADATA} is not a JSON object")
    for key, value in settings.items():
        if key.rpartition(".")[2] in ("megatron_config", "auto_mapping") and value:
            raise ValueError(f"{option} {path}: its settings name code to import, {key}, which is never run; give another LoRA")
    return settings


def read_lora(path: Path, option: str) -> dict[str, Tensor]:
    """The tensors. Raises ValueError if a number among them is NaN or infinite."""
    check_lora_file(path, option)
    state = load_file(path)
    name = first_not_finite(state.items())
    if name is not None:
        raise ValueError(
            f"{option} {path}: NaN or infinite numbers, first in {name}; give an earlier checkpoint's lora/ or another LoRA"
        )
    return state


def _damaged(path: Path, option: str, why: str) -> ValueError:
    why = " ".join(why.split())[:200]
    return ValueError(f"{option} {path}: damaged ({why}); copy it again, or give another run's lora/ folder")
