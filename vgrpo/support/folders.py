"""Folders and files that a command is asked to write: refused before any work if they cannot be."""

import os
from pathlib import Path


def require_folder(folder: Path, option: str) -> None:
    """Raise an OSError, naming the option, unless files can be written into the folder or it can be made. Makes nothing."""
    there = folder.absolute()
    while not _exists(there, folder, option):
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{option} {folder}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} {folder}: {there} cannot be written; name a folder you may write")


def missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the innermost first: what making it will make."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def require_file(path: Path, option: str) -> None:
    """Raise an OSError, naming the option, unless a file of this name can be written. Makes nothing."""
    require_folder(path.parent, option)
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path}: is a folder; name a file")


def _exists(path: Path, folder: Path, option: str) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return path == path.parent
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise type(error)(f"{option} {folder}: {error.strerror}; name another") from error
    return True
