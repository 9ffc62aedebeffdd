"""Models on the Hugging Face hub: taken from its cache where they are whole there, else downloaded."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vgrpo.models.bundled import INDEX
from vgrpo.models.classes import networks_of, parts_of
from vgrpo.models.folder import WEIGHTS, WEIGHTS_INDEX, check_pickles, has_configs, has_texts, is_whole, variant_of
from vgrpo.models.published import HUB_IDS
from vgrpo.models.sizes import num_weights

TEXTS = (".json", ".txt", ".model", ".jinja")  # of tokenizers and configs


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

    return _fetch(name, has_configs, lambda: snapshot_download(name, allow_patterns=[INDEX, "*/config.json"]))


def fetch_for_file(name: str) -> Path:
    """A folder with the configs and tokenizers of a model, for a checkpoint in one file; also its weights if they are here."""
    from huggingface_hub import snapshot_download

    def download() -> str:
        return snapshot_download(name, allow_patterns=[pattern for pattern in _wanted(name) if pattern.endswith(TEXTS)])

    return _fetch(name, has_texts, download)


def fetch_pipeline(name: str) -> Path:
    """A folder with all that loads as a pipeline, without a safety checker and without what repositories hold besides.

    Raises ValueError, before anything large comes, for a part whose weights are not in safetensors.
    """
    from huggingface_hub import snapshot_download

    return _fetch(name, is_whole, lambda: snapshot_download(name, allow_patterns=_wanted(name)))


def _wanted(name: str) -> list[str]:
    """The files that a pipeline is loaded from, of those that the hub lists."""
    from huggingface_hub import model_info

    folder = fetch_index(name).parent
    listed = [str(sibling.rfilename) for sibling in model_info(name).siblings or []]
    networks, wanted = networks_of(folder), [INDEX]
    for part in parts_of(folder):
        names = [path.removeprefix(f"{part}/") for path in listed if path.startswith(f"{part}/")]
        variant = variant_of(names)
        if part in networks:
            check_pickles(f"--model {name}: {part}/", names)
        for file in names:
            match = WEIGHTS.fullmatch(file) or WEIGHTS_INDEX.fullmatch(file)
            taken = match[2] == variant if match else "/" not in file and file.endswith(TEXTS)
            wanted += [f"{part}/{file}"] if taken else []
    return wanted


def _fetch(name: str, suffices: Callable[[Path], bool], download: Callable[[], Any]) -> Path:
    folder = fetch_index(name).parent
    if suffices(folder):
        return folder
    with _explained(name):
        folder = Path(download())
        if not suffices(folder):  # without a network what is in the cache comes back, also if it is half of it
            raise OSError(f"the cache holds {name} in part")
    return folder


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
    return f" ({2 * num_weights(HUB_IDS[name]) / 1e9:.1f} GB of weights in bf16)" if name in HUB_IDS else ""
