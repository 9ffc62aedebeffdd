"""A run's folder: made or gone on with, and held by one process."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vgrpo.support.lock import FolderLock
from vgrpo.training.checkpoint import Loaded
from vgrpo.training.config import Config
from vgrpo.training.config_files import to_dict
from vgrpo.training.resume import check_changes, newest_checkpoint, state_of


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Open for one run."""

    path: Path
    lock: FolderLock
    loaded: Loaded | None
    """The checkpoint to go on from; None starts at iteration 0."""
    finished: bool = False


def new_run(config: Config) -> RunFolder:
    """Raises FileExistsError if the folder holds another run, PermissionError if it cannot be written, LockedError if another
    process is at work in it."""
    path = new_folder(config.output_dir, config.model)
    lock = FolderLock(path)
    lock.take()
    return RunFolder(path=path, lock=lock, loaded=None)


def resumed_run(config: Config, *, allow_changes: bool, notice: Callable[[str], None]) -> RunFolder:
    """Go on with the run in `config.output_dir`, wherever it was stopped; one that never began is begun.

    Raises ValueError for settings that may not change, CheckpointError if no checkpoint can be read, and what `new_run` raises.
    """
    if config.output_dir is None:
        raise ValueError("--resume: name the run, by --output-dir or by its config.yaml")
    path = Path(config.output_dir)
    state = state_of(path)
    if state == "fresh":
        opened = new_run(config)
        notice(f"{path} holds no run yet, so there is nothing to resume: it begins")
        return opened
    lock = FolderLock(path)
    lock.take()
    try:
        loaded = newest_checkpoint(path)
        _tell(path, loaded, notice)
        if loaded is not None:
            for change in check_changes(loaded.state["settings"], settings_of(config), allow=allow_changes):
                notice(f"changed since the checkpoint: {change}")
    except BaseException:
        lock.release()
        raise
    return RunFolder(path=path, lock=lock, loaded=loaded, finished=state == "finished")


def settings_of(config: Config) -> dict[str, object]:
    """As a checkpoint keeps them, to be compared when the run goes on."""
    return {name: value for name, value in to_dict(config).items() if name != "output_dir"}


def _tell(path: Path, loaded: Loaded | None, notice: Callable[[str], None]) -> None:
    if loaded is None:
        notice(f"{path} was stopped before its first checkpoint: it begins again")
        return
    for damaged in loaded.damaged:
        notice(f"a damaged checkpoint was left out and is kept as {damaged}")
    notice(f"goes on from {loaded.path}")


def new_folder(folder: Path | None, model: str) -> Path:
    """Make the folder of a run, by default one named by its model and the time.

    Raises FileExistsError if it holds another run, PermissionError if it cannot be written.
    """
    folder = Path(folder or time.strftime(f"runs/{Path(model).name}-%Y%m%d-%H%M%S"))
    if folder.exists() and (not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir())):
        raise FileExistsError(
            f"--output-dir {folder} is not empty: it may hold another run; name a new folder, or add --resume"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"--output-dir {folder} cannot be made ({error.strerror}); name a folder you may write"
        ) from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--output-dir {folder} cannot be written; name a folder you may write")
    return folder
