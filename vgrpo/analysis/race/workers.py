"""Work shared out among processes, each of which computes with one thread."""

import multiprocessing
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import torch

Watch = Callable[[Any], None]
"""Is told of events, which must be values that can be pickled."""
Work = Callable[[Any, Watch], None]
"""A function of a module, of one task and a watcher."""

PATIENCE = 5.0  # seconds without news before the processes are looked at


class WorkerError(RuntimeError):
    """A process of several failed; the message holds what it said."""


class _Failed:
    def __init__(self, report: str) -> None:
        self.report = report


class _Done:
    pass


def share_out(work: Work, tasks: Sequence[Any], num_workers: int, watch: Watch) -> None:
    """Do every task. With several workers, each takes every so-many-th of them in a process of its own.

    Raises WorkerError if one fails; the others are stopped then.
    """
    num_workers = min(num_workers, len(tasks))
    if num_workers <= 1:
        with one_thread():
            for task in tasks:
                work(task, watch)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used threads can hang
    news = context.Queue()
    shares = [tasks[index::num_workers] for index in range(num_workers)]
    processes = [context.Process(target=_work_off, args=(work, share, news), daemon=True) for share in shares]
    for process in processes:
        process.start()
    try:
        _listen(news, processes, watch)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _listen(news: Any, processes: Sequence[Any], watch: Watch) -> None:
    """Pass on what the processes tell until the last is done."""
    left = len(processes)
    while left:
        try:
            event = news.get(timeout=PATIENCE)
        except queue.Empty:
            killed = [process.exitcode for process in processes if process.exitcode not in (None, 0)]
            if killed:
                raise WorkerError(f"a process of the race ended with status {killed[0]} and said nothing") from None
            continue
        if isinstance(event, _Failed):
            raise WorkerError(event.report)
        if isinstance(event, _Done):
            left -= 1
        else:
            watch(event)


def _work_off(work: Work, share: Sequence[Any], news: Any) -> None:
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    try:
        with one_thread():
            for task in share:
                work(task, news.put)
    except KeyboardInterrupt:  # Ctrl-C reaches every process of the terminal; the first one answers it
        return
    except Exception:
        news.put(_Failed(traceback.format_exc()))
        return
    news.put(_Done())


def _end_with_the_first() -> None:
    """Where the first process was killed, nobody reads what the others find."""
    first = multiprocessing.parent_process()
    assert first is not None
    wait([first.sentinel])
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """So that a process's CPU time is the time that its work takes, and lanes share no core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
