"""Whether the other processes of a run are alive, and what the first that fails died of.

A thread gives a sign of life every second into the store that the launcher or process 0 keeps, and looks for those of others:
process 0 at all, the others at process 0, which says what it finds. So a killed process is named within a few seconds, and one
that stands still within SILENCE. Where the network is cut, the store may never answer again, and the thread that asked it waits
for ever; a second thread, which asks nobody, notices that.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from torch.distributed import Store  # type: ignore[attr-defined]

from vgrpo.support.secrets import in_one_line

INTERVAL = 1.0  # seconds between two signs
SILENCE = 30.0  # seconds without a sign, after which a process counts as lost
GRACE = 10.0  # seconds that a process may wait for one that is lost before it is ended
LOST, FIRST_LEFT = "lost", "first-left"


class LifeSigns:
    """Of this process and of the others. `store` is used by a thread of its own, so it must not be shared."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.lost: str | None = None
        """Who is lost, and why."""
        self.waiting_since: float | None = None
        """When this process began to wait for the others, if it does."""
        self._count, self._seen = 0, dict[int, tuple[bytes, float]]()
        self._lost_at, self._heard, self._stopped = 0.0, time.monotonic(), Event()
        store.set(f"who/{rank}", f"{socket.gethostname()}, process {os.getpid()}")
        self._give_sign()
        self._threads = [Thread(target=work, name="life signs", daemon=True) for work in (self._watch, self._guard)]

    def start(self) -> None:
        """Begin, when all processes have given their first sign."""
        self._heard = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(5 * INTERVAL)

    @property
    def cut_off(self) -> bool:
        """Whether the store has stopped to answer, so that nothing must be asked of it any more."""
        return time.monotonic() - self._heard > SILENCE

    def tell(self, error: BaseException) -> None:
        """Let the others know why this process leaves, unless another one left before."""
        if self.cut_off:
            return
        self._report(f"{self._name(self.rank)} ended with {in_one_line(error)}")

    def why(self, error: Exception) -> str:
        """What is behind an error of communication: who left with an error, or who alone gives no more signs of life."""
        others, began = [rank for rank in range(self.size) if rank != self.rank], time.monotonic()
        signs = {rank: self._sign(rank) for rank in others}
        while self.lost is None and (waited := time.monotonic() - began) < 12 * INTERVAL:
            time.sleep(INTERVAL / 10)
            self._read_report()
            silent = [rank for rank in others if self._sign(rank) == signs[rank]]
            # On a busy machine a sign may be late, so the only silent one of several is named sooner than one of many.
            if silent and self.lost is None and waited > (4 if len(silent) == 1 else 10) * INTERVAL:
                self._report(f"{self._name(silent[0])} is gone: it was killed, or its machine is")
        return self.lost or f"the processes lost touch: {' '.join(str(error).split())[:300]}"

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While this process waits for the others."""
        before, self.waiting_since = self.waiting_since, time.monotonic()
        try:
            yield
        finally:
            self.waiting_since = before

    def wait_for_first(self) -> None:
        """Process 0 lets the others go; they wait for that, or until it is lost."""
        with suppress(RuntimeError):
            if self.rank == 0:
                self.store.set(FIRST_LEFT, "yes")
            while self.lost is None and not self.store.check([FIRST_LEFT]):
                time.sleep(INTERVAL / 10)

    def said_by_first(self, error: BaseException) -> bool:
        """Whether process 0 ends with the same error, and so tells of it."""
        key, text = "said", str(error)
        if self.rank == 0:
            with suppress(RuntimeError):
                self.store.set(key, text)
            return False
        until = time.monotonic() + 4 * INTERVAL
        while time.monotonic() < until and not self.cut_off:
            with suppress(RuntimeError):
                if self.store.check([key]):
                    return self.store.get(key).decode() == text
            time.sleep(INTERVAL / 10)
        return False

    def _name(self, rank: int) -> str:
        try:
            return f"rank {rank} ({self.store.get(f'who/{rank}').decode()})"
        except RuntimeError:
            return f"rank {rank}"

    def _give_sign(self) -> None:
        self._count += 1
        self.store.set(f"alive/{self.rank}", str(self._count))

    def _sign(self, rank: int) -> bytes:
        """The last one of a process; nothing if its store is gone, which goes with process 0."""
        try:
            return bytes(self.store.get(f"alive/{rank}"))
        except RuntimeError:
            return b""

    def _report(self, text: str) -> None:
        """The first report of a lost process is the one that all give."""
        with suppress(RuntimeError):  # the store is gone
            text = self.store.compare_set(LOST, "", text).decode()
        self._note(text)

    def _read_report(self) -> None:
        with suppress(RuntimeError):
            if self.store.check([LOST]):
                self._note(self.store.get(LOST).decode())

    def _note(self, text: str) -> None:
        if self.lost is None:
            self._lost_at = time.monotonic()
            self.lost = text

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self._give_sign()
            except RuntimeError:
                self._note("rank 0 is gone, or the machine that keeps the launcher's store")
            self._read_report()
            for rank in range(1, self.size) if self.rank == 0 else (0,):
                self._look_at(rank)
            self._heard = time.monotonic()

    def _guard(self) -> None:
        while not self._stopped.wait(INTERVAL):
            if self.cut_off:
                self._note(f"rank 0, or the machine that keeps the launcher's store, has not answered for {SILENCE:.0f} s")
            self._end_if_stuck()

    def _look_at(self, rank: int) -> None:
        sign, now = self._sign(rank), time.monotonic()
        before, since = self._seen.get(rank, (b"", now))
        if sign != before or rank not in self._seen:
            self._seen[rank] = (sign, now)
        elif now - since > SILENCE:
            self._report(f"{self._name(rank)} gave no sign of life for {SILENCE:.0f} s")

    def _end_if_stuck(self) -> None:
        """A wait for a lost process may have no end: a stopped process keeps its connections open, and a GPU waits for ever."""
        since = self.waiting_since
        if self.lost is not None and since is not None and time.monotonic() - max(since, self._lost_at) > GRACE:
            print(f"vgrpo train: {self.lost}; rank {self.rank} ends, too", file=sys.stderr, flush=True)
            os._exit(1)
