"""Processes that start at once: they are forked from one that has imported everything.

A fork has the signals, the file descriptors and the death of a process started by a shell. The process that forks computes
nothing itself, so that no thread is lost.
"""

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 300.0  # seconds that a job may take, on a busy machine too


@dataclass
class Process:
    """A forked process in a session of its own, and what it prints."""

    pid: int
    log: Path
    status: int | None = None
    """The exit status; minus the signal's number if one ended it."""

    def poll(self) -> int | None:
        if self.status is None:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(code) if pid else None
        return self.status

    def wait(self) -> int:
        began = time.monotonic()
        while self.poll() is None:
            if time.monotonic() - began > DEADLINE:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"a process did not end in {DEADLINE:.0f} s")
            time.sleep(0.01)
        assert self.status is not None
        return self.status

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def computed(self) -> float:
        """Seconds that it has had of a core: a measure of progress that a busy machine does not change."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until(self, seconds: float) -> None:
        """Until it has computed so much, or has ended."""
        began = time.monotonic()
        while self.poll() is None and self.computed() < seconds and time.monotonic() - began < DEADLINE:
            time.sleep(0.004)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")


def fork(action: Callable[[], int], place: Path, log: Path) -> Process:
    """Run a function in a process of its own, in a folder; its result is the exit status."""
    pid = os.fork()
    if pid:
        return Process(pid, log)
    status = 1
    try:
        os.setsid()
        os.chdir(place)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        status = action()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the program does at its end
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(status)


def ends(process: Process, *allowed: int) -> int:
    status = process.wait()
    last = process.output.strip().splitlines()[-1:] or ["nothing was printed"]
    assert status in allowed, f"status {status} is none of {allowed}: {last[0]}"
    return status


def says(process: Process, *words: str) -> None:
    assert any(word in process.output for word in words), f"{process.log} says none of {words}: {process.output[-300:]!r}"
