"""One process per folder. The lock is the system's own, so a process that died holds none."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO

NAME = ".lock"


class LockedError(OSError):
    """Another process works in the folder."""


class FolderLock:
    """Held from `take` to `release`, or to the end of the process, however it ends.

    The lock belongs to the open file and not to its content, which only says who holds it: for people.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self.file: IO[str] | None = None

    def take(self) -> None:
        """Raises LockedError, naming the holder, or OSError where files cannot be locked."""
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = _holder(file.read())
            file.close()
            raise LockedError(
                f"--output-dir {self.folder}: {holder} is at work in it; wait for its end or stop it, or name another folder"
            ) from None
        except OSError as error:
            file.close()
            raise OSError(
                f"--output-dir {self.folder}: its file system cannot lock files ({error.strerror}), so two runs could damage "
                "each other there; name a folder on another one"
            ) from error
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        file.flush()
        self.file = file

    def release(self) -> None:
        """The file stays: to remove it could take it from under another process that has just opened it."""
        if self.file is not None:
            self.file.close()
            self.file = None


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"process {found['pid']} on {found['host']} (since {found['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
