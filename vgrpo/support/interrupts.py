"""Requests to stop, noted when they come and acted on where stopping loses nothing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

EXIT_RESUMABLE = 75
"""Exit status of a run that stopped when asked to and can go on with --resume: EX_TEMPFAIL of sysexits.h, "try again later".
A failed one ends with 1, and one whose user pressed Ctrl-C twice with 130."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what schedulers send to stop a job; what Slurm can be told to send some time before that (--signal=USR1@120)."""


class StopRequested(Exception):
    """Somebody asked the run to stop; `signal` names how, such as "SIGTERM"."""

    def __init__(self, name: str) -> None:
        super().__init__(f"asked to stop by {name}")
        self.signal = name


@contextmanager
def ctrl_c_is_no_other_error() -> Iterator[None]:
    """Raise KeyboardInterrupt where a library made another error of it: a file whose reading Ctrl-C ends looks damaged."""
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Interrupts:
    """Notes SIGINT, SIGTERM and SIGUSR1 while entered; `check` raises StopRequested after the first.

    A second SIGINT raises KeyboardInterrupt at once, wherever the program is. Further SIGTERM and SIGUSR1 change nothing:
    schedulers repeat themselves. A signal that is ignored, as SIGINT is in a script's background jobs, stays ignored. Python
    lets only the main thread handle signals, so in another thread this does nothing.
    """

    def __init__(self) -> None:
        self.noted: str | None = None
        self._num_sigints = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    self._before[number] = signal.SIG_DFL if handler is None else handler  # None: set by C code
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raise StopRequested if a signal was noted."""
        if self.noted is not None:
            raise StopRequested(self.noted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._num_sigints += number == signal.SIGINT
        if self.noted is None:
            self.noted = signal.Signals(number).name
        if self._num_sigints > 1:
            self._restore()
            raise KeyboardInterrupt

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
