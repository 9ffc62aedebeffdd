"""Models on the Hugging Face hub: taken from its cache where they are whole there, else downloaded."""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INDEX = "model_index.json"


def is_hub_id(name: str) -> bool:
    """Whether a model's name is ORG/NAME and no folder here."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without an answer: mostly OSErrors, but a proxy that refuses is not one."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of whichever HTTP library it uses

    return OSError, HTTPError


def is_gated(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, is the hub's refusal to give out files before their licence is
    accepted."""
    from huggingface_hub.errors import GatedRepoError

    return error is not None and (isinstance(error, GatedRepoError) or is_gated(error.__cause__ or error.__context__))


def gated_message(name: str) -> str:
    return f"{name} is gated: accept its licence on https://huggingface.co/{name}, then log in with `hf auth login`"


def fetch_index(name: str) -> Path:
    """A model's model_index.json alone. This and the other two raise PermissionError if the model is gated and
    FileNotFoundError if it cannot be had, saying what to do."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _explained(name):
        try:
            return Path(hf_hub_download(name, INDEX, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(name, INDEX))


def fetch_configs(name: str) -> Path:
    """A folder with the configs of a model's parts, a few kilobytes."""
    from huggingface_hub import snapshot_download

    return _fetch(name, _has_configs, lambda: snapshot_download(name, allow_patterns=[INDEX, "*/config.json"]))


def fetch_pipeline(name: str) -> Path:
    """A folder with all that loads as a pipeline, without a safety checker and without what repositories hold besides."""
    from diffusers import DiffusionPipeline

    return _fetch(name, _is_whole, lambda: DiffusionPipeline.download(name, safety_checker=None))


def _fetch(name: str, suffices: Callable[[Path], bool], download: Callable[[], Any]) -> Path:
    folder = fetch_index(name).parent
    if suffices(folder):
        return folder
    with _explained(name):
        folder = Path(download())
        if not suffices(folder):  # without a network what is in the cache comes back, also if it is half of it
            raise OSError(f"the cache holds {name} in part")
    return folder


def read_index(folder: Path) -> dict[str, Any]:
    """A pipeline's model_index.json. Raises ValueError if it is none."""
    return _read_json(folder / INDEX)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it and save or download the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object; delete it and save or download the model again")
    return content


def _parts(folder: Path) -> dict[str, bool]:
    """The parts of a pipeline, and whether each is a network, which has weights."""
    pairs = {name: value for name, value in read_index(folder).items() if isinstance(value, list) and len(value) == 2}
    return {name: _is_network(*value) for name, value in pairs.items() if value[0] and name != "safety_checker"}


def _is_network(library: str, kind: str) -> bool:
    from torch import nn

    try:
        return issubclass(getattr(importlib.import_module(library), kind), nn.Module)
    except (ImportError, AttributeError):
        return False  # diffusers, which cannot load it either, will say so


def _has_configs(folder: Path) -> bool:
    return all((folder / part / "config.json").is_file() for part, network in _parts(folder).items() if network)


def _is_whole(folder: Path) -> bool:
    """Whether nothing is missing, as it would be after a download that was broken off."""
    return not lacking(folder)


def lacking(folder: Path) -> list[str]:
    """What a pipeline's folder should hold and does not, in words."""
    found = []
    for name, network in _parts(folder).items():
        part = folder / name
        if not any(part.glob("*")):
            found.append(f"the folder {name}/")
        elif network and not (part / "config.json").is_file():
            found.append(f"{name}/config.json")
        elif network and not _has_weights(part):
            found.append(f"the weights of {name}/")
    return found


def _has_weights(part: Path) -> bool:
    for kind in ("safetensors", "bin"):
        for index in part.glob(f"*.{kind}.index.json"):
            return all((part / shard).is_file() for shard in _read_json(index).get("weight_map", {}).values())
        if any("-of-" not in path.name for path in part.glob(f"*.{kind}")):
            return True
    return False


@contextmanager
def _explained(name: str) -> Iterator[None]:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except hub_errors() as error:
        if is_gated(error):
            raise PermissionError(f"--model {gated_message(name)}") from error
        if isinstance(error, RepositoryNotFoundError):
            text = "neither a folder here nor a model on the hub; to a private one log in with `hf auth login`"
        elif isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            text = f"the hub's repository holds no {INDEX}, so this is not a diffusers pipeline"
        else:
            text = f"neither a folder here nor whole in the hub's cache{_size(name)}, and the hub did not answer; "
            text += f"with a network run `hf download {name}`"
        raise FileNotFoundError(f"--model {name}: {text}") from error


def _size(name: str) -> str:
    from vgrpo.models.published import HUB_IDS
    from vgrpo.models.skeleton import num_weights

    return f" ({2 * num_weights(HUB_IDS[name]) / 1e9:.1f} GB of weights in bf16)" if name in HUB_IDS else ""
