"""Checkpoints: a folder each, whole or absent, with a checksum of every file.

`iteration-000025/` holds the tensors of a run's state in state.safetensors, all else of it in state.json, and manifest.json
with the files' sizes and checksums. It is written under another name, forced to the disk and renamed: the rename is what
makes it a checkpoint. Nothing in it is a pickle, so a folder from a stranger runs no code.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from vgrpo.training.snapshot import digest, pack, save_tensors, unpack

FORMAT = 2
TENSORS, REST, MANIFEST = "state.safetensors", "state.json", "manifest.json"
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "vgrpo")


class CheckpointError(ValueError):
    """There are checkpoints, and none can be read."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checkpoint that was verified."""

    state: dict[str, Any]
    iteration: int
    path: Path
    damaged: list[Path] = field(default_factory=list)
    """Newer ones that were not whole, under their new names."""


def name_of(iteration: int) -> str:
    return f"iteration-{iteration:06d}"


def write(state: dict[str, Any], folder: Path, iteration: int, keep: int) -> Path:
    """Write a checkpoint of a state whose tensors are on the CPU, then delete all but the newest `keep`.

    Raises OSError if it cannot be written; the older ones are untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name_of(iteration)}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        tensors, rest = pack(state)
        save_tensors(tensors, draft / TENSORS)
        _write_text(draft / REST, json.dumps(rest))
        manifest = {
            "format": FORMAT,
            "iteration": iteration,
            "libraries": {name: _version(name) for name in LIBRARIES},
            "files": {path.name: {"bytes": path.stat().st_size, "blake2b": digest(path)} for path in draft.iterdir()},
        }
        _write_text(draft / MANIFEST, json.dumps(manifest, indent=1))
        _sync(draft)
        path = _put(draft, folder / name_of(iteration))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for old in all_of(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def _put(draft: Path, path: Path) -> Path:
    """Rename a draft into its place. A checkpoint of the same iteration steps aside first, for no rename replaces a folder."""
    aside = path.with_name(f".old-{path.name}.{os.getpid()}")
    if path.exists():
        path.rename(aside)
    draft.rename(path)
    _sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)
    return path


def load_newest(folder: Path) -> Loaded | None:
    """The newest checkpoint that verifies; None if there is none.

    One that is damaged is renamed to `damaged-iteration-...` and kept, and the one before it is tried. Raises CheckpointError
    if all there are, are damaged.
    """
    _recover(folder)
    damaged: list[Path] = []
    reason = ""
    for path in reversed(all_of(folder)):
        try:
            return Loaded(state=_read(path), iteration=int(path.name.removeprefix("iteration-")), path=path, damaged=damaged)
        except CheckpointError as error:
            reason = str(error)
            damaged.append(path.rename(_free(path.with_name(f"damaged-{path.name}"))))
    if damaged:
        raise CheckpointError(
            f"{folder}: no checkpoint can be read; the damaged ones are kept as {', '.join(path.name for path in damaged)} "
            f"({reason}). Start anew in another folder"
        )
    return None


def load(folder: Path, iteration: int) -> dict[str, Any]:
    """The state of one iteration. Raises FileNotFoundError if it is not there, CheckpointError if it is damaged."""
    path = folder / name_of(iteration)
    if not path.is_dir():
        raise FileNotFoundError(f"{folder} holds no checkpoint of iteration {iteration}")
    return _read(path)


def all_of(folder: Path) -> list[Path]:
    """In order, the oldest first. Raises CheckpointError for those of an older form."""
    if any(folder.glob("iteration-*.pt")):
        raise CheckpointError(f"{folder} holds checkpoints of vgrpo 0.1, which this version does not read; start a new run")
    found = [path for path in folder.glob("iteration-*") if re.fullmatch(r"iteration-\d{6,}", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("iteration-")))


def _read(path: Path) -> dict[str, Any]:
    """Raises CheckpointError unless all is as the manifest says."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        if manifest["format"] != FORMAT or set(manifest["files"]) != {TENSORS, REST}:
            raise CheckpointError(f"{path}: of another form than this version writes")
        for name, expected in manifest["files"].items():
            if (path / name).stat().st_size != expected["bytes"] or digest(path / name) != expected["blake2b"]:
                raise CheckpointError(f"{path / name}: its content is not what was written")
        if manifest["iteration"] != int(path.name.removeprefix("iteration-")):
            raise CheckpointError(f"{path}: holds iteration {manifest['iteration']}")
        state: dict[str, Any] = unpack(load_file(path / TENSORS), json.loads((path / REST).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise error if isinstance(error, CheckpointError) else CheckpointError(f"{path}: damaged ({error})") from error
    return state


def _recover(folder: Path) -> None:
    """Clear away what writers left that were killed. Between two renames the older checkpoint of an iteration may be all there
    is of it: it goes back."""
    for path in folder.glob(".*iteration-*.*"):
        pid = int(path.name.rsplit(".", 1)[1]) if path.name.rsplit(".", 1)[1].isdecimal() else 0
        if pid == os.getpid() or _runs(pid):
            continue
        place = folder / path.name.removeprefix(".old-").rsplit(".", 1)[0]
        if path.name.startswith(".old-") and not place.exists():
            path.rename(place)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _free(path: Path) -> Path:
    """A name that is not taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _write_text(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """A folder's names are on the disk only when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
