"""A run's folder: made or gone on with, and held by one process."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vgrpo.models.defaults import Defaults
from vgrpo.support.files import clear_drafts
from vgrpo.support.folders import missing, require_folder
from vgrpo.support.lock import LockedError, RunLock
from vgrpo.training.checkpoints.checkpoint import Loaded, load_newest
from vgrpo.training.checkpoints.resume import check_changes, state_of
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import to_dict

OF_A_START = ("config.yaml", "metrics.jsonl", "tensorboard", "trackers", "wandb")
"""What a start writes beside the leftovers, last of all; nothing is in them yet that could not be written again."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Open for one run, until its lock is released."""

    path: Path
    lock: RunLock
    loaded: Loaded | None = None
    """The checkpoint to go on from; None starts at iteration 0."""
    finished: bool = False
    made: list[Path]
    """The folders that were made for it, the innermost first."""

    def abandon(self) -> None:
        """After a start that failed: let go of the folder, and take it away if it was made for this run."""
        take_away(self.made)  # while the lock keeps others out of it
        self.lock.release()


def open_folder(config: Config, *, resume: bool, allow_changes: bool, notice: Callable[[str], None]) -> RunFolder:
    """A new run's folder, or that of a run to go on with, wherever it was stopped; one that never began is begun.

    Raises FileExistsError if it holds another run, LockedError if another process is at work in it, PermissionError if it
    cannot be written; to resume, ValueError for settings that may not change and CheckpointError if no checkpoint can be read.
    """
    if resume and config.output_dir is None:
        raise ValueError("--resume: name the run, by --output-dir or by its config.yaml")
    is_new = not resume or state_of(Path(str(config.output_dir))) == "fresh"
    path = free_folder(config.output_dir, config.model) if is_new else Path(str(config.output_dir))
    made = new_folder(path) if is_new else []
    lock = RunLock(path)
    try:
        lock.take()
        clear_drafts(path)
        if lock.note:
            notice(lock.note)
        if is_new and resume:
            notice(f"{path} holds no run yet, so there is nothing to resume: it begins")
        loaded = None if is_new else _newest(path, config, allow_changes, notice)
        finished = not is_new and state_of(path) == "finished"
    except LockedError:  # another run made it at the same moment, and is at work there
        raise
    except BaseException:
        take_away(made)
        lock.release()
        raise
    return RunFolder(path=path, lock=lock, loaded=loaded, finished=finished, made=made)


def _newest(path: Path, config: Config, allow_changes: bool, notice: Callable[[str], None]) -> Loaded | None:
    """The checkpoint that a stopped run goes on from, aloud."""
    loaded = load_newest(path / "checkpoints")
    if loaded is None:
        notice(f"{path} was stopped before its first checkpoint: it begins again")
        return None
    for note in loaded.notes:
        notice(note)
    notice(f"goes on from {loaded.path}")
    saved = loaded.state["settings"]
    for change in check_changes(saved, settings_of(as_it_began(config, saved)), allow=allow_changes):
        notice(f"changed since the checkpoint: {change}")
    return loaded


def as_it_began(config: Config, saved: dict[str, Any]) -> Config:
    """With what is left to the machine, or to the model, as it was found when the run began, by its checkpoint's settings."""
    if config.precision == "auto":
        config = replace(config, precision=saved["precision"])
    rollout, evaluation = (Defaults(*(saved[part][name] for name in Defaults._fields)) for part in ("rollout", "eval"))
    return replace(config, rollout=config.rollout.filled(rollout), eval=config.eval.filled(evaluation))


def settings_of(config: Config) -> dict[str, object]:
    """As a checkpoint keeps them, to be compared when the run goes on."""
    return {name: value for name, value in to_dict(config).items() if name != "output_dir"}


def free_folder(folder: Path | None, model: str) -> Path:
    """The folder of a new run, by default one named by its model and the time. Makes nothing.

    Raises an OSError if it cannot be written, FileExistsError if it holds another run.
    """
    folder = Path(folder or time.strftime(f"runs/{Path(model).name}-%Y%m%d-%H%M%S"))
    require_folder(folder, "--output-dir")
    if folder.exists() and not all(_is_leftover(path) for path in folder.iterdir()):
        raise FileExistsError(
            f"--output-dir {folder} is not empty: it may hold another run; name a new folder, or add --resume"
        )
    return folder


def new_folder(folder: Path) -> list[Path]:
    """Make the folder of a run; returns all that were made, the innermost first. Raises PermissionError if that fails."""
    made = missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"--output-dir {folder} cannot be made ({error.strerror}); name a folder you may write"
        ) from error
    return made


def take_away(made: list[Path]) -> None:
    """Delete folders that were made for a run, the innermost first, if it holds no more than a start leaves in it."""
    if not made or not all(_is_leftover(path) or path.name in OF_A_START for path in made[0].glob("*")):
        return
    shutil.rmtree(made[0], ignore_errors=True)
    for folder in made[1:]:
        with suppress(OSError):  # it is in use by now
            folder.rmdir()


def _is_leftover(path: Path) -> bool:
    """Whether a run that was killed while it began may have left this: nothing is lost with it."""
    if path.name == "checkpoints":
        return path.is_dir() and not any(path.iterdir())
    return path.name == ".lock" or path.name.startswith(".draft-")
