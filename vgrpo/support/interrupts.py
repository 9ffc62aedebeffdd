"""Signals, noted when they come and acted on where nothing is lost.

A handler that raised at once could stop a run in the middle of an optimiser step, with half of its weights new. So the first
signal is only noted, and the run asks for it where its state is whole.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_RESUMABLE = 75
"""Exit status of a run that was stopped and can go on (EX_TEMPFAIL): a scheduler's script starts it again with --resume."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last is what Slurm can send ahead (--signal=USR1@120)


class StopRequested(Exception):
    """Somebody asked the process to stop, and this is a good place to do so."""


class Interrupts:
    """While it is entered, signals are noted. A second Ctrl-C does not wait: it raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.noted: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.noted is not None:
            raise KeyboardInterrupt
        self.noted = self.noted or signal.Signals(number).name

    def check(self) -> None:
        """Raise StopRequested if a signal came."""
        if self.noted is not None:
            raise StopRequested(f"stopped by {self.noted}")
