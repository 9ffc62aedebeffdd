"""Weights of reward models, from the hub or a folder: whole transformers models, and single published checkpoint files."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vgrpo.models.hub import gated_message, hub_errors, is_gated


class Size(NamedTuple):
    """Of a reward's published weights: the download, and GB (10^9 bytes) of GPU memory, where they are fp32 or as is said."""

    download: str
    gpu: float


SIZES = {
    "sprites_preference": Size("1.6 MB", 0.003),
    "clipscore": Size("1.7 GB", 1.7),
    "diversity": Size("1.7 GB", 1.7),
    "pickscore": Size("3.9 GB", 3.9),
    "aesthetic": Size("1.7 GB", 1.2),  # CLIP's text encoder stays behind
    "hpsv2": Size("2.0 GB", 3.9),  # published as fp16
    "imagereward": Size("1.8 GB", 1.8),
    "hpsv3": Size("17 GB", 16.6),  # in bf16
    "videoreward": Size("4.5 GB", 4.5),  # in bf16
    "geneval": Size("2.0 GB", 2.0),
    "geneval_strict": Size("2.0 GB", 2.0),
}
"""Rewards with weights on the GPU."""


def gpu_bytes(reward: str) -> float:
    """Memory that a reward's weights take on the GPU; 0 for one on the CPU or behind a server, and for your own."""
    name = reward.partition("=")[0]
    return 1e9 * SIZES[name].gpu if name in SIZES else 0.0


def fetch(kind: Any, source: str, reward: str, size: str | None = None) -> Any:
    """`kind.from_pretrained(source)`. Raises FileNotFoundError that says what is missing, how large it is (by
    default the whole reward's size) and how to get it; PermissionError if the hub does not give it out yet."""
    size = size or SIZES[reward].download
    try:
        return kind.from_pretrained(source)
    except hub_errors() as error:
        _check_gate(error, source, reward)
        raise FileNotFoundError(
            f"reward {reward}: no weights at {source} ({size}), neither as a folder nor in the hub's cache, and the hub did "
            f"not answer; with a network run `hf download {source}`, or give a folder: --reward {reward}=FOLDER"
        ) from error


def fetch_file(source: str, names: tuple[str, ...], reward: str, size: str | None = None) -> Path:
    """The first of `names` in the folder `source`, or the file names[0] of the hub's repository `source`.

    Raises FileNotFoundError that says what is missing, how large it is (by default the whole reward's size) and how to get it;
    PermissionError if the hub does not give it out yet.
    """
    from huggingface_hub import hf_hub_download

    size = size or SIZES[reward].download
    for name in names:
        if (Path(source) / name).is_file():
            return Path(source) / name
    if Path(source).is_dir():
        raise FileNotFoundError(f"reward {reward}: the folder {source} holds no {' or '.join(names)} ({size})")
    try:
        return Path(hf_hub_download(source, names[0]))
    except hub_errors() + (ValueError,) as error:  # ValueError: a path that is no hub id
        _check_gate(error, source, reward)
        raise FileNotFoundError(
            f"reward {reward}: no {names[0]} ({size}) at {source}, neither in a folder nor in the hub's cache, and the hub did "
            f"not answer; with a network run `hf download {source} {names[0]}`, or give a folder: --reward {reward}=FOLDER"
        ) from error


def fetch_folder(source: str, wanted: list[str], reward: str) -> Path:
    """The folder `source`, or one with the files of the hub's repository `source` that the patterns `wanted` name.

    Raises FileNotFoundError and PermissionError as `fetch_file` does.
    """
    from huggingface_hub import snapshot_download

    folder = Path(source)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(source, allow_patterns=wanted))
        except hub_errors() + (ValueError,) as error:
            _check_gate(error, source, reward)
            raise FileNotFoundError(
                f"reward {reward}: no weights ({SIZES[reward].download}) at {source}, neither in a folder nor in the hub's "
                f"cache, and the hub did not answer; with a network run `hf download {source}`, or give a folder: "
                f"--reward {reward}=FOLDER"
            ) from error
    missing = [pattern for pattern in wanted if not any(folder.glob(pattern))]
    if missing:
        raise FileNotFoundError(f"reward {reward}: {folder} holds no {' and no '.join(missing)} ({SIZES[reward].download})")
    return folder


def _check_gate(error: Exception, source: str, reward: str) -> None:
    if is_gated(error):
        raise PermissionError(f"reward {reward}: {gated_message(source)}") from error


def beside(source: str | None, name: str, hub_id: str) -> str:
    """`source` where that folder holds `name`, else `hub_id`: published checkpoints often come without tokenizer or config."""
    return source if source is not None and (Path(source) / name).is_file() else hub_id


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a .safetensors file, or of a torch checkpoint, where they may be kept under `state_dict`."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("state_dict", state)


def renamed(state: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    """State with its keys rewritten by the first pattern of `table` that fits the whole key; what fits none is left out."""
    result = {}
    for key, value in state.items():
        pattern = next((pattern for pattern in table if re.fullmatch(pattern, key)), None)
        if pattern is not None:
            result[re.sub(pattern, table[pattern], key)] = value
    return result


def load_state(module: nn.Module, state: dict[str, Tensor], reward: str, path: Path) -> None:
    """Fill every weight of a module. Raises ValueError if the checkpoint is of another architecture."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"reward {reward}: {path} holds another architecture's weights: {error}") from error
