"""The list of a checkpoint's files, by which damage is noticed: sizes and checksums, and a checksum of the list itself."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vgrpo.support.files import sync

NAME = "manifest.json"
FORMAT = 1
IN_PARTS = 2
"""The same with the tensors in several files."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; says why and what to do."""


class DamagedError(CheckpointError):
    """A checkpoint whose files are not what was written."""


def write_file(path: Path, parts: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a file and wait until it is on the disk; returns its line of the manifest."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for part in parts:
            digest.update(part)
            size += file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def write_manifest(folder: Path, iteration: int, files: dict[str, dict[str, Any]], *, in_parts: bool = False) -> None:
    """Complete a checkpoint."""
    content = {"format": IN_PARTS if in_parts else FORMAT, "iteration": iteration, "versions": _versions(), "files": files}
    write_file(folder / NAME, [_sealed(content)])
    sync(folder)


def check_files(folder: Path, *, contents: bool = True) -> dict[str, Any]:
    """The manifest, if every file is what was written; without `contents` only names and sizes are looked at.

    Raises DamagedError, which says what is wrong, and CheckpointError for a checkpoint of a newer version.
    """
    try:
        manifest = _opened(folder)
        if manifest["format"] not in (FORMAT, IN_PARTS):
            raise CheckpointError(f"{folder} was made by a newer vgrpo; go on with that version")
        found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        for name in sorted({NAME, *manifest["files"]} ^ found):
            raise DamagedError(f"{name} is missing" if name not in found else f"{name} does not belong there")
        for name, line in manifest["files"].items():
            _check_file(folder / name, line, contents)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ELOOP):
            raise DamagedError(f"{Path(error.filename or folder).name}: {error.strerror}") from error
        raise  # e.g. no permission: the checkpoint may be good
    return manifest


def _check_file(path: Path, line: dict[str, Any], contents: bool) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would never end, a link leads out of the run
        raise DamagedError(f"{path.name} is no ordinary file")
    if found.st_size != line["size"]:
        raise DamagedError(f"{path.name} has {found.st_size} bytes, of {line['size']} that were written")
    if contents:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != line["sha256"]:
                raise DamagedError(f"{path.name} is not what was written: its checksum differs")


def _opened(folder: Path) -> dict[str, Any]:
    path = folder / NAME
    if not stat.S_ISREG(path.lstat().st_mode):
        raise DamagedError(f"{NAME} is no ordinary file")
    data = path.read_bytes()
    try:
        content = json.loads(data)
        del content["sha256"]
        intact = _sealed(content) == data and _is_complete(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise DamagedError(f"{NAME} is not what was written")
    return content


def _is_complete(content: dict[str, Any]) -> bool:
    lines = content["files"].values()
    complete = all(type(line["size"]) is int and type(line["sha256"]) is str for line in lines)
    return complete and type(content["iteration"]) is int and type(content["versions"]) is dict and "format" in content


def _sealed(content: dict[str, Any]) -> bytes:
    """As JSON with its own checksum at the end. One content has one text, so that no byte can change unnoticed."""
    checksum = hashlib.sha256(json.dumps(content, indent=1).encode()).hexdigest()
    return json.dumps(content | {"sha256": checksum}, indent=1).encode() + b"\n"


def _versions() -> dict[str, str]:
    return {name: _version(name) for name in ("vgrpo", "torch", "diffusers", "peft")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a folder of sources
        return "unknown"
