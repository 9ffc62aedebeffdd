"""A saved LoRA's file, checked before a model is loaded for it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vgrpo.models.finite import first_not_finite
from vgrpo.models.index import read_json

WEIGHTS = "pytorch_lora_weights.safetensors"
PEFT_WEIGHTS, PEFT_SETTINGS = "adapter_model.safetensors", "adapter_config.json"
METADATA = "lora_adapter_metadata"
"""Where diffusers keeps rank and alpha, as JSON, in the file's header."""
PIPELINE = "pipeline"
"""In the header of our files: the pipeline's class, on which other tools' names for its layers depend."""


def lora_file(place: Path, option: str) -> Path:
    """The weights of a LoRA: the file itself, or the one in a folder that diffusers, peft or another trainer wrote.

    `option` is how the user named it. Raises FileNotFoundError if there is none, ValueError for a pickle and for several files.
    """
    if place.is_file():
        if place.suffix != ".safetensors":
            raise ValueError(
                f"{option} {place}: not a .safetensors file; others are pickles, which can run code when they are opened. "
                "Convert it where you trust it"
            )
        return place
    for name in (WEIGHTS, PEFT_WEIGHTS):
        if (place / name).is_file():
            return place / name
    others = sorted(place.glob("*.safetensors"))
    if len(others) > 1:
        raise ValueError(f"{option} {place}: {len(others)} files of safetensors; name one of them, such as {others[-1]}")
    if not others:
        raise FileNotFoundError(
            f"{option} {place}: no {WEIGHTS} in it; give a run's lora/ folder, or a LoRA's .safetensors file from elsewhere"
        )
    return others[0]


def check_lora_file(path: Path, option: str) -> None:
    """Raise ValueError if the file is damaged, holds no tensors, or its settings are none."""
    try:
        with safe_open(path, "pt") as file:  # compares the file's size with what its header says
            names = list(file.keys())
    except (SafetensorError, RecursionError) as error:
        raise damaged(path, option, str(error)) from error
    if not names:
        raise damaged(path, option, "it holds no tensors")
    read_settings(path, option)


def read_header(path: Path) -> dict[str, str]:
    """What the file says about itself, apart from its tensors."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def read_settings(path: Path, option: str) -> dict[str, Any]:
    """Rank, alpha and the rest as peft calls them, for diffusers with the part's name before them, as in `transformer.r`;
    nothing if the file says none.

    Raises ValueError if they are no JSON object, or if they name a module: peft would import it.
    """
    if path.name == PEFT_WEIGHTS and path.with_name(PEFT_SETTINGS).is_file():
        settings = read_json(path.with_name(PEFT_SETTINGS))
    else:
        try:
            settings = json.loads(read_header(path).get(METADATA, "{}"))
        except (ValueError, RecursionError) as error:
            raise damaged(path, option, f"its {METADATA} is not JSON") from error
    if not isinstance(settings, dict):
        raise damaged(path, option, f"its {METADATA} is not a JSON object")
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


def damaged(path: Path, option: str, why: str) -> ValueError:
    why = " ".join(why.split())[:200]
    return ValueError(f"{option} {path}: damaged ({why}); copy it again, or give another run's lora/ folder")
