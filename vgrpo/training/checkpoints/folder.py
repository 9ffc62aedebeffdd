"""A folder of checkpoints: what they are called in it, and what is done about those that are of no use."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from vgrpo.support.files import lives_elsewhere
from vgrpo.training.checkpoints.manifest import CheckpointError


def name_of(iteration: int) -> str:
    return f"iteration-{iteration:06d}"


def all_in(folder: Path) -> list[tuple[int, Path]]:
    """By iteration, the oldest first."""
    paths = [path for path in folder.glob("iteration-*") if re.fullmatch(r"iteration-\d{6,12}", path.name)]
    return sorted((int(path.name.removeprefix("iteration-")), path) for path in paths)


def draft_of(folder: Path, iteration: int) -> Path:
    """Where this process writes a checkpoint until it is whole, and where one goes that is being deleted."""
    return folder / f".{name_of(iteration)}.{os.getpid()}"


def clear_leftovers(folder: Path) -> None:
    """Delete what dead writers left half written, and put back what one was about to replace."""
    for path in folder.glob(".iteration-*.*"):
        found = re.fullmatch(r"\.iteration-\d+\.(\d+)", path.name)
        if found and not lives_elsewhere(int(found.group(1))):
            delete(path)
    for path in folder.glob(".replaced-iteration-*"):
        place = folder / path.name.removeprefix(".replaced-")
        if place.exists():
            delete(path)
        else:
            path.rename(place)


def set_aside(path: Path) -> Path:
    """Where a damaged checkpoint is afterwards: where it was, if the disk can only be read."""
    number, place = 1, path.with_name(f"damaged-{path.name}")
    while place.exists():
        number += 1
        place = path.with_name(f"damaged-{path.name}-{number}")
    with suppress(OSError):
        return path.rename(place)
    return path


def delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def refuse_old(folder: Path) -> None:
    """Raise CheckpointError for a folder with checkpoints of vgrpo 0.1, which were pickles."""
    old = sorted(folder.glob("iteration-*.pt"))
    if old:
        raise CheckpointError(f"{old[-1]} was made by vgrpo 0.1; go on with that version, or start anew in another folder")
