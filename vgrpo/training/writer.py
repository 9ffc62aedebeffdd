"""Checkpoints written beside training: it waits for the copy to the CPU's memory, not for the disk."""

import threading
import time
from pathlib import Path
from typing import Any

from vgrpo.training import checkpoint
from vgrpo.training.snapshot import on_cpu


class CheckpointWriter:
    """Writes one checkpoint at a time. What went wrong is raised by the next call."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.seconds_waited = 0.0
        """By the caller, for copies and for earlier checkpoints that were not yet written."""
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def save(self, state: dict[str, Any], iteration: int) -> Path:
        """Begin to write; returns where it will be. Raises OSError if the one before failed."""
        started = time.perf_counter()
        self.finish()
        copy = on_cpu(state)
        self._thread = threading.Thread(target=self._write, args=(copy, iteration), name="checkpoint")
        self._thread.start()
        self.seconds_waited += time.perf_counter() - started
        return self.folder / checkpoint.name_of(iteration)

    def finish(self) -> None:
        """Wait until all is on the disk. Raises OSError if it is not."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, state: dict[str, Any], iteration: int) -> None:
        try:
            checkpoint.write(state, self.folder, iteration, self.keep)
        except OSError as error:
            self._error = error
