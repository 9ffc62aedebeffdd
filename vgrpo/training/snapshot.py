"""A run's state taken apart: its tensors, which safetensors keeps, and all else, which JSON keeps exactly."""

import errno
import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

CHUNK = 2**22


def on_cpu(value: Any) -> Any:
    """A copy of a nested state with every tensor in the CPU's memory: training may go on while it is written."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_cpu(item) for item in value)
    return value


def pack(state: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors by number, and the rest as JSON with the tensors' places in it. Raises TypeError for any other kind."""
    tensors: dict[str, Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors[str(len(tensors))] = value
            return {"tensor": str(len(tensors) - 1)}
        if isinstance(value, dict):  # as pairs: JSON's own objects would make strings of an optimiser's integer keys
            return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": [plain(item) for item in value]}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")

    return tensors, plain(state)


def unpack(tensors: dict[str, Tensor], rest: Any) -> Any:
    """The inverse of `pack`."""
    if isinstance(rest, list):
        return [unpack(tensors, item) for item in rest]
    if not isinstance(rest, dict):
        return rest
    (kind, value), *_ = rest.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {unpack(tensors, key): unpack(tensors, item) for key, item in value}
    if kind == "tuple":
        return tuple(unpack(tensors, item) for item in value)
    return float(value)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write and force to the disk. Raises OSError, also where safetensors wraps one."""
    try:
        save_file(tensors or {"none": torch.zeros(0)}, path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found.group(1)) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def digest(path: Path) -> str:
    """A checksum of a file's content, read back from where it was written."""
    found = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
