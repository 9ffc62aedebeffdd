"""Files that other processes see whole or not at all, and what to say when the disk refuses one."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft to write to, which takes `path`'s place at the end. After an exception nothing is left of it.

    The draft is on the disk before it is renamed, so a power cut leaves the old file or the new one, never an empty one.
    """
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        yield draft
        sync(draft)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_whole(path: Path, text: str) -> None:
    with whole(path) as draft:
        draft.write_text(text)


def append_line(path: Path, line: str) -> None:
    """Add a line to a log in one write, so that lines of two writers never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno == errno.EINVAL):  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def clear_drafts(folder: Path) -> None:
    """Delete the drafts that dead processes, or this one before its start, left directly in a folder."""
    for draft in folder.glob(".draft-*"):
        found = re.match(r"\.draft-(\d+)-", draft.name)
        if found and not lives_elsewhere(int(found.group(1))):
            draft.unlink(missing_ok=True)


def lives_elsewhere(pid: int) -> bool:
    """Whether another process than this one has the number now. In a container a run often gets the same number again."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, and is somebody else's
        return True
    return True


CAUSES = {
    errno.ENOSPC: ("the disk is full", "Free some space there"),
    errno.EDQUOT: ("your quota of disk space is used up", "Delete some of your files there"),
    errno.EROFS: ("it lies on a file system that can only be read", "Mount it for writing, or copy the run's folder elsewhere"),
    errno.EACCES: ("it may not be written by you", "Change its permissions, or copy the run's folder elsewhere"),
    errno.EPERM: ("it may not be written by you", "Change its permissions, or copy the run's folder elsewhere"),
    errno.ENOENT: ("it, or its folder, is gone: deleted or moved while the run went on", "Put the folder back, or start anew"),
    errno.EIO: ("the disk does not answer (an input/output error)", "Check the disk, and copy the run's folder to another one"),
    errno.ESTALE: ("the network disk lost it", "Mount the disk again"),
}


OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
"""What no other thing than a disk says. The rest of CAUSES may also be about a file that a user named to be read."""


def explain(error: OSError, path: Path, saved: str | None, again: str = "go on with --resume") -> str:
    """One line: what could not be written and why, what is saved, and how to go on.

    `path` is what was to be written, if the error names nothing; `saved` is what was saved last, such as
    "checkpoints/iteration-000025"; None if nothing was. `again` is what to do once the disk is mended.
    """
    if saved is None:
        return refused(error, path, "Nothing was saved before.", "start again")
    return refused(error, path, f"Saved last is {saved}.", again)


def refused(error: OSError, path: Path, state: str, again: str) -> str:
    """The same with a sentence of one's own for what is saved."""
    where = error.filename2 or error.filename or path
    cause, remedy = CAUSES.get(error.errno or 0, (error.strerror or str(error), "Mend that"))
    return " ".join(filter(None, (f"{where}: {cause}.", state, f"{remedy}, then {again}.")))
