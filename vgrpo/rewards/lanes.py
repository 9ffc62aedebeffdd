"""Threads that call rewards while the main one draws."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from queue import PriorityQueue
from types import TracebackType
from typing import Any, Self

from vgrpo.rewards.calls import as_here

Task = tuple[int, int, Callable[[], None]]
PATIENCE = 10.0
"""Seconds that a run which is stopped waits for a call: in a process that ends, a thread in the middle of one may crash it."""


def patience_after(error: type[BaseException] | None) -> float:
    """A second Ctrl-C asks to leave at once."""
    return 0.0 if error is KeyboardInterrupt else PATIENCE


class Lane:
    """At most `size` threads that take tasks by their rank, and in order among those of one rank.

    They are daemons: a reward that never answers keeps no process from its end.
    """

    def __init__(self, size: int) -> None:
        self.size, self.closed = size, False
        self._tasks: PriorityQueue[Task] = PriorityQueue()
        self._numbers, self._threads = count(), list[threading.Thread]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(patience_after(kind))

    def submit(self, run: Callable[[], Any], rank: int = 0) -> "Future[Any]":
        """What `run` will return or raise; KeyboardInterrupt, too, is raised where the result is asked for."""
        future: Future[Any] = Future()
        here = as_here(run)

        def task() -> None:
            if self.closed or not future.set_running_or_notify_cancel():
                future.cancel()
                return
            try:
                future.set_result(here())
            except BaseException as error:  # handed to who waits
                future.set_exception(error)

        self._tasks.put((rank, next(self._numbers), task))
        if len(self._threads) < self.size:
            self._threads.append(threading.Thread(target=self._work, daemon=True, name="vgrpo judge"))
            self._threads[-1].start()
        return future

    def close(self, patience: float = 0.0) -> None:
        """Begin no further task, and wait so many seconds for those that are running."""
        self.closed = True
        for _ in self._threads:
            self._tasks.put((LAST, next(self._numbers), _stop))
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (task := self._tasks.get()[2]) is not _stop:
            task()


LAST = 2**31


def _stop() -> None:
    return


class Clock:
    """The time in which at least one of several threads was at work, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock, self._num_busy, self._since = threading.Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._num_busy == 0:
                self._since = time.perf_counter()
            self._num_busy += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_busy -= 1
            if self._num_busy == 0:
                self.seconds += time.perf_counter() - self._since
