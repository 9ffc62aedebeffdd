"""Checkpoints that are whole or absent, and noticed when they are damaged.

A checkpoint is a folder, `iteration-000025`, with a state's tensors, the rest of it, and a manifest of both. It is written
under another name beside its place, put on the disk, then renamed: the rename is the moment from which it exists. One process
at a time uses a folder of checkpoints (see `RunLock`).
"""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from vgrpo.support.files import sync
from vgrpo.training.checkpoints.folder import all_in, clear_leftovers, delete, draft_of, name_of, refuse_old, set_aside
from vgrpo.training.checkpoints.manifest import CheckpointError, DamagedError, check_files, write_file, write_manifest
from vgrpo.training.checkpoints.state_files import Snapshot, parts_in, read_state

TENSORS, REST = "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checkpoint in memory."""

    state: dict[str, Any]
    iteration: int
    path: Path
    versions: dict[str, str]
    """Of the libraries that made it."""
    damaged: list[Path]
    """Newer ones that could not be used, where they now are."""
    notes: list[str]
    """What was wrong with each of them."""


class CheckpointWriter:
    """Writes checkpoints in the background and keeps the newest `keep`.

    What goes wrong there is raised, as it is, by the next `save` or `finish`. The thread does not keep a process alive that
    wants to leave at once; what it then leaves behind is cleared by the next writer.
    """

    asks_all: ClassVar[bool] = False
    """Whether all processes must save together."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        assert keep >= 1
        folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder)
        self.folder, self.keep = folder, keep
        self.saved: Path | None = None
        """The newest one that is in place."""
        self.seconds_waited = 0.0
        """How long saving kept its caller, in copying and in waiting for the one before."""
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self._known: set[Path] = set()

    def save(self, state: dict[str, Any], iteration: int, *, wait: bool = False) -> Path:
        """Copy a state, which may change when this returns, and begin to write it; `wait` for the end of it.

        Returns where it will be.
        """
        self.finish()
        began = time.perf_counter()
        snapshot = Snapshot(state)
        self.seconds_waited += time.perf_counter() - began
        self._thread = Thread(target=self._write, args=(snapshot, iteration), name="checkpoint", daemon=True)
        self._thread.start()
        if wait:
            self.finish()
        return self.folder / name_of(iteration)

    def finish(self) -> None:
        """Wait for what is being written. Raises what went wrong."""
        if self._thread is not None:
            began = time.perf_counter()
            self._thread.join()
            self.seconds_waited += time.perf_counter() - began
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, snapshot: Snapshot, iteration: int) -> None:
        try:
            self.saved = _write(snapshot, self.folder, iteration)
            self._known.add(self.saved)
            retire(self.folder, iteration, self.keep, self._known)
        except BaseException as error:  # raised in the caller's thread
            self._error = error


def save(state: dict[str, Any], folder: Path, iteration: int, keep: int = 2) -> Path:
    """Write a checkpoint and wait for it; returns its folder."""
    writer = CheckpointWriter(folder, keep)
    return writer.save(state, iteration, wait=True)


def load_newest(folder: Path) -> Loaded | None:
    """The newest checkpoint that is what was written; None if there is none.

    Damaged ones are renamed `damaged-iteration-000025`, to be looked at and never tried again. Raises CheckpointError if only
    damaged ones are left, or those of a version that kept them in another way.
    """
    if not folder.is_dir():
        return None
    clear_leftovers(folder)
    damaged: list[Path] = []
    notes: list[str] = []
    for _, path in reversed(all_in(folder)):
        try:
            return _load(path, damaged, notes)
        except DamagedError as error:
            damaged.append(set_aside(path))
            notes.append(f"{path} is damaged ({error}); it is kept as {damaged[-1].name}")
    refuse_old(folder)
    left = sorted(path.name for path in folder.glob("damaged-iteration-*"))
    if damaged or left:
        raise CheckpointError(
            f"every checkpoint in {folder} is damaged: {'; '.join(notes) or ', '.join(left)}. Put back a copy of one, or start "
            "anew in another folder"
        )
    return None


def load(folder: Path, iteration: int) -> Loaded:
    """The checkpoint of an iteration. Raises FileNotFoundError if there is none, CheckpointError if it is damaged."""
    path = folder / name_of(iteration)
    if not path.exists():
        refuse_old(folder)
        there = ", ".join(str(number) for number, _ in all_in(folder)) or "none"
        raise FileNotFoundError(f"{folder} holds no checkpoint of iteration {iteration}; there are {there}")
    try:
        return _load(path, [], [])
    except DamagedError as error:
        raise CheckpointError(f"{path} is damaged ({error}); choose another iteration") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state of one whose files were checked; what is in parts is read where it is needed. Raises ValueError, or OSError, if
    it is not there."""
    state: dict[str, Any] = read_state(path / TENSORS, path / REST, parts_in(path))
    return state


def _write(snapshot: Snapshot, folder: Path, iteration: int) -> Path:
    path, draft = folder / name_of(iteration), draft_of(folder, iteration)
    try:
        draft.mkdir()
        files = {
            TENSORS: write_file(draft / TENSORS, snapshot.tensor_bytes()),
            REST: write_file(draft / REST, [snapshot.json_bytes()]),
        }
        write_manifest(draft, iteration, files)
        move(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync(folder)
    return path


def move(draft: Path, path: Path) -> None:
    """Into place, also where an earlier one of the same iteration is: a folder cannot be renamed onto another."""
    replaced = path.with_name(f".replaced-{path.name}")
    if path.exists():
        path.rename(replaced)
    try:
        draft.rename(path)
    except OSError:
        with suppress(FileNotFoundError):
            replaced.rename(path)
        raise
    with suppress(FileNotFoundError):
        delete(replaced)


def retire(folder: Path, iteration: int, keep: int, known: set[Path]) -> None:
    """Of the checkpoints up to an iteration, keep the newest good ones. `known` are those that were checked before."""
    num_good = 0
    for number, path in reversed(all_in(folder)):
        if number > iteration:  # of a future that a run went back from; not for us to judge
            continue
        if num_good >= keep:
            gone = draft_of(folder, number)
            path.rename(gone)  # half deleted it would look damaged
            delete(gone)
            known.discard(path)
            continue
        try:
            check_files(path, contents=path not in known)
        except DamagedError:
            set_aside(path)
        else:
            num_good += 1
            known.add(path)


def _load(path: Path, damaged: list[Path], notes: list[str]) -> Loaded:
    manifest = check_files(path)
    if name_of(manifest["iteration"]) != path.name:
        raise DamagedError(f"by its manifest it is of iteration {manifest['iteration']}")
    try:
        state = read_checkpoint(path)
    except ValueError as error:
        raise DamagedError(str(error)) from error
    iteration, versions = manifest["iteration"], manifest["versions"]
    return Loaded(state=state, iteration=iteration, path=path, versions=versions, damaged=damaged, notes=notes)
