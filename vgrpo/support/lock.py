"""One process per run folder: a lock that dies with its process.

The lock is flock(2) on `.lock`, not the file's existence, so that what a killed process leaves locks nobody out. The file says
who holds the lock. It stays, because to delete it would let two processes lock two files of the same name.
"""

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any, Self

from vgrpo.support.files import lives_elsewhere

NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class LockedError(OSError):
    """Another process, or another run in this one, works in the folder."""


class RunLock:
    """Holds a folder while entered. Raises LockedError, at once, if it is held.

    A forked child does not hold it: the child's copy of the open file is closed, so it may outlive its parent. On a file system
    without locks, as some network disks are, the run goes on and `note` says that nothing keeps a second one out.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.note: str | None = None
        self._descriptor: int | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self) -> None:
        """Raises LockedError if another holds it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _myself().encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._owner = descriptor, os.getpid()
        _close_in_children(self)

    def release(self) -> None:
        """A forked child, which has no part in it, changes nothing."""
        if self._descriptor is None or os.getpid() != self._owner:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a child that C code forked still has the file open
        except OSError:  # the disk is full or gone; closing the file frees the lock
            pass
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(_refusal(self.path, _holder(descriptor))) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            holder = _holder(descriptor)
            if _lives_here(holder):
                raise LockedError(_refusal(self.path, holder)) from None
            self.note = (
                f"the file system of {self.path.parent} has no locks ({error.strerror}), so nothing keeps a second run out of "
                "this folder; see to it that there is none"
            )


def holder_of(folder: Path) -> dict[str, Any] | None:
    """Who works in a folder (`pid`, `host`, `since`), or None. A process on another machine counts as alive: from here nobody
    can tell."""
    try:
        descriptor = os.open(
            folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )  # a pipe would never end
        with os.fdopen(descriptor, "rb") as file:
            found = json.loads(file.read(1000))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or "pid" not in found:
        return None
    return found if found.get("host") != socket.gethostname() or _lives_here(found) else None


def _myself() -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}) + "\n"


def _holder(descriptor: int) -> dict[str, Any]:
    """What the file says; empty in the moment between taking the lock and writing, and if somebody else wrote the file."""
    for _ in range(10):
        try:
            content = json.loads(os.pread(descriptor, 1000, 0))
        except (ValueError, RecursionError):
            time.sleep(0.01)
        else:
            return content if isinstance(content, dict) else {}
    return {}


def _lives_here(holder: dict[str, Any]) -> bool:
    pid = holder.get("pid")
    if not isinstance(pid, int) or holder.get("host") != socket.gethostname():
        return False
    return pid == os.getpid() or lives_elsewhere(pid)


def _refusal(path: Path, holder: dict[str, Any]) -> str:
    if "pid" not in holder:
        who, remedy = "another process", "Wait for its end, or stop it"
    elif (holder["pid"], holder.get("host")) == (os.getpid(), socket.gethostname()):
        who, remedy = f"another run of this same process {holder['pid']}", "Let it end first"
    else:
        who = f"process {holder['pid']} on {holder.get('host')}, since {holder.get('since')},"
        remedy = f"Wait for its end, or stop it with `kill {holder['pid']}` on {holder.get('host')} and go on with --resume"
    return f"{path.parent} is in use: {who} works there. {remedy}; or name another --output-dir."


def _close_in_children(lock: RunLock) -> None:
    """A child shares the parent's open file and with it the lock, which would then outlive a killed parent."""
    reference = weakref.ref(lock)

    def close() -> None:
        held = reference()
        if held is not None and held._descriptor is not None:
            os.close(held._descriptor)
            held._descriptor = None

    os.register_at_fork(after_in_child=close)
