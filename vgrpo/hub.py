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


def _parts(folder: Path) -> dict[str, bool]:
    """The parts of a pipeline, and whether each is a network, which has weights."""
    index = json.loads((folder / INDEX).read_text())
    parts = {name: value for name, value in index.items() if isinstance(value, list) and value[0] and name != "safety_checker"}
    return {name: _is_network(*value) for name, value in parts.items()}


def _is_network(library: str, kind: str) -> bool:
    from torch import nn

    return issubclass(getattr(importlib.import_module(library), kind), nn.Module)


def _has_configs(folder: Path) -> bool:
    return all((folder / part / "config.json").is_file() for part, network in _parts(folder).items() if network)


def _is_whole(folder: Path) -> bool:
    """Whether nothing is missing, as it would be after a download that was broken off."""
    others = [folder / part for part, network in _parts(folder).items() if not network]
    networks = [folder / part for part, network in _parts(folder).items() if network]
    return _has_configs(folder) and all(map(_has_weights, networks)) and all(any(other.glob("*")) for other in others)


def _has_weights(part: Path) -> bool:
    for kind in ("safetensors", "bin"):
        for index in part.glob(f"*.{kind}.index.json"):
            return all((part / shard).is_file() for shard in json.loads(index.read_text())["weight_map"].values())
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
    from vgrpo.plan.presets import HUB_IDS
    from vgrpo.plan.skeleton import num_weights

    return f" ({2 * num_weights(HUB_IDS[name]) / 1e9:.1f} GB of weights in bf16)" if name in HUB_IDS else ""
