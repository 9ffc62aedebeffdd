"""Tensors on the way: a safetensors file, with a note as JSON in its header. Nothing in it is ever run."""

from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vgrpo.support.http.strict import strict_json
from vgrpo.support.json_files import to_json

NOTE = "note"


def pack(tensors: Mapping[str, Tensor], note: Any) -> bytes:
    """The same bytes for the same content."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {NOTE: to_json(note)})


def unpack(body: bytes | bytearray) -> tuple[dict[str, Tensor], Any]:
    """Tensors, and the note. Raises ValueError for what `pack` did not write."""
    content = bytes(body)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"no safetensors file: {error}") from error
    header = strict_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    told = header.get("__metadata__")
    if not isinstance(told, dict) or not isinstance(told.get(NOTE), str):
        raise ValueError(f"the header's metadata has no {NOTE}")
    return tensors, strict_json(told[NOTE].encode())
