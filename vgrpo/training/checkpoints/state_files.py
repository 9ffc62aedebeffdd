"""A nested state as two files that hold no code: its tensors as safetensors, all else as JSON.

Tensors keep dtype, shape and bits. All else keeps its type: tuples, whole numbers as keys of dicts as torch's optimisers have
them, and floats to the last bit. The JSON says where each tensor goes, so the tensors' names are only there to be read.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from vgrpo.models.shard_files import Parts, Rows
from vgrpo.models.sharding import OwnPart, own_part
from vgrpo.support.json_files import parse_json

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Snapshot:
    """A copy of a state on the CPU; of spread tensors, of this process's parts. Raises TypeError, naming the place, for what
    the files cannot hold."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.parts: set[str] = set()
        """Those of which this process has a part."""
        self.rest = self._plain(state, "")

    def drop_whole(self) -> None:
        """Keep the parts alone: what is not spread is the same in every process."""
        self.tensors = {name: value for name, value in self.tensors.items() if name in self.parts}

    def json_bytes(self) -> bytes:
        return json.dumps(self.rest, allow_nan=False, indent=1).encode()

    def tensor_bytes(self) -> Iterator[bytes | memoryview]:
        """A safetensors file, part by part: the library's own writer hides why a disk refuses."""
        # Wide numbers first: then each tensor begins at a multiple of its numbers' size.
        ordered = sorted(self.tensors.items(), key=lambda item: -item[1].element_size())
        header, end = {}, 0
        for name, tensor in ordered:
            start, end = end, end + tensor.nbytes
            header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        yield len(text).to_bytes(8, "little") + text
        for _, tensor in ordered:
            yield memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)

    def _plain(self, value: Any, name: str) -> Any:
        if isinstance(value, DTensor):
            value = OwnPart(part=own_part(value), shape=tuple(value.shape))
        if isinstance(value, OwnPart):
            key = self._add(value.part, name)
            self.parts.add(key)
            return {"$rows": [key, list(value.shape)]}
        if isinstance(value, Rows):
            value = value.read()
        if isinstance(value, Tensor):
            return {"$tensor": self._add(value, name)}
        if isinstance(value, dict):
            return self._plain_dict(value, name)
        if isinstance(value, list | tuple):
            items = [self._plain(item, _inside(name, index)) for index, item in enumerate(value)]
            if type(value) is list:
                return items
            if type(value) is tuple:
                return {"$tuple": items}
        if type(value) is float and not math.isfinite(value):
            return {"$float": str(value)}
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise TypeError(f"a checkpoint cannot hold {name or 'this'}, a {type(value).__name__}; make it numbers or a tensor")

    def _plain_dict(self, value: dict[Any, Any], name: str) -> Any:
        items = [(key, self._plain(item, _inside(name, key))) for key, item in value.items()]
        if all(type(key) is str and not key.startswith("$") for key in value):
            return dict(items)
        return {"$dict": [[self._plain(key, f"a key of {name}"), item] for key, item in items]}

    def _add(self, tensor: Tensor, name: str) -> str:
        if tensor.dtype not in DTYPES or tensor.layout is not torch.strided:
            raise TypeError(f"a checkpoint cannot hold {name}, a tensor of {tensor.dtype}, {tensor.layout}")
        while name in self.tensors or name == "__metadata__":  # {"a.b": x, "a": {"b": y}}; the format's own word
            name += "'"
        self.tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
        return name


def _inside(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def name_of_part(index: int, count: int) -> str:
    """The file of one of several parts of a state's tensors."""
    return f"state-{index + 1:05d}-of-{count:05d}.safetensors"


def parts_in(folder: Path) -> list[Path]:
    """In their order; none where one file holds all tensors."""
    return sorted(path for path in folder.glob("state-*") if re.fullmatch(r"state-\d{5}-of-\d{5}\.safetensors", path.name))


def read_state(tensors: Path, rest: Path, parts: Sequence[Path] = ()) -> Any:
    """The state that files hold: all of `tensors` in memory, or of several `parts` what is whole. Raises ValueError if they are
    not of one state."""
    if parts and [path.name for path in parts] != [name_of_part(index, len(parts)) for index in range(len(parts))]:
        raise ValueError(f"{rest}: a part of the tensors is missing")
    content = parse_json(rest.read_text(encoding="utf-8"), str(rest))
    try:
        if parts:
            pieces = Parts(list(parts))
            # A part of each tensor that is spread stays where it is.
            return restored(content, _whole(parts[0], skip=_spread_names(content)), pieces)
        return restored(content, _whole(tensors))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{rest}: not the state that belongs to {tensors.name} ({error!r})") from error


def _whole(path: Path, skip: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a file, in memory."""
    try:
        with safe_open(path, framework="pt") as file:
            # The library maps the file; a file that is cut off later would then end the process.
            return {name: file.get_tensor(name).clone() for name in file.keys() if name not in skip}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error})") from error


def _spread_names(value: Any) -> set[str]:
    """Of the tensors of which a snapshot's `rest` says that they are in parts."""
    if isinstance(value, dict) and "$rows" in value:
        return {value["$rows"][0]}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_spread_names, items))


def restored(value: Any, tensors: dict[str, Tensor], parts: Parts | None = None) -> Any:
    """From a snapshot's `rest`, its tensors, and the files of those that are in parts."""
    if isinstance(value, list):
        return [restored(item, tensors, parts) for item in value]
    if not isinstance(value, dict):
        return value
    if "$rows" in value:
        if parts is None:
            raise ValueError(f"{value['$rows']} is in parts, and there are none")
        name, shape = value["$rows"]
        return Rows(name=name, shape=tuple(shape), parts=parts)
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$tuple" in value:
        return tuple(restored(value["$tuple"], tensors, parts))
    if "$float" in value:
        return float(value["$float"])
    if "$dict" in value:
        return {restored(key, tensors, parts): restored(item, tensors, parts) for key, item in value["$dict"]}
    return {key: restored(item, tensors, parts) for key, item in value.items()}
