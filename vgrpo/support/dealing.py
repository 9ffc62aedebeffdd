"""Pieces of work dealt over workers that may be lost, come back, or hang. What a piece is, the caller knows.

No piece is lost with a worker: another takes it, or the caller does it. A piece may be done twice, so doing one must change
nothing.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Generic, TypeVar

from vgrpo.support.pace import Pace

P = TypeVar("P")
A = TypeVar("A")
LONGEST_PAUSE = 60.0
TICK = 0.5
"""Seconds between two looks at whether something is late, or the caller wants to stop."""


@dataclass(kw_only=True)
class Dealer:
    """Remembers between deals which workers, named by their addresses, do not answer."""

    failures: tuple[type[Exception], ...]
    """What `ask` raises when a worker did not do its piece. Any other error ends the deal."""
    notice: Callable[[str], None]
    """Told, in words, of a worker that is lost and of one that is back."""
    reason: Callable[[Exception], str] = str
    pause: float = 2.0
    """Seconds before a lost worker is asked again; twice as many after each further failure."""
    pace: Pace = field(default_factory=Pace)
    fails: dict[str, int] = field(default_factory=dict)
    """Of each worker that is lost, how many times in a row."""
    until: dict[str, float] = field(default_factory=dict)
    """Of each of these, when it is asked again."""
    hanging: set[str] = field(default_factory=set)
    """Those that still owe an answer to an earlier deal, which another gave."""

    def begin(
        self,
        pieces: Sequence[P],
        workers: Sequence[str],
        ask: Callable[[str, P], A],
        answered: Callable[[A, P], None] = lambda answer, piece: None,
    ) -> "Deal[P, A]":
        """Ask `ask(worker, piece)` for every piece, in threads. `answered` gets each answer and its piece, in the order of the
        pieces, one at a time, from any thread."""
        asked = [worker for worker in dict.fromkeys(workers) if worker not in self.hanging]
        deal = Deal(self, pieces, ask, answered, len(asked))
        for worker in asked:
            Thread(target=deal.work, args=(worker,), daemon=True, name=f"vgrpo asks {worker}").start()
        return deal

    def is_late(self, seconds: float) -> bool:
        """Whether a piece has been out for so long that another worker should do it, too."""
        return self.pace.slowest > 0 and seconds > 3 * self.pace.slowest + 5

    def lose(self, worker: str, error: Exception) -> None:
        fails = self.fails.get(worker, 0) + 1
        self.fails[worker] = fails
        self.until[worker] = time.monotonic() + min(LONGEST_PAUSE, self.pause * 2 ** (fails - 1))
        if fails == 1:
            self.notice(f"{worker} is lost ({self.reason(error)}); its work is done by others")

    def keep(self, worker: str, seconds: float) -> None:
        self.pace.add(seconds)
        self.until.pop(worker, None)
        if self.fails.pop(worker, 0):
            self.notice(f"{worker} is back")


class Deal(Generic[P, A]):
    """Work that goes on beside the caller until it is `finished`. Everything here is read and written by one thread at a time,
    that which holds `state`."""

    def __init__(
        self,
        dealer: Dealer,
        pieces: Sequence[P],
        ask: Callable[[str, P], A],
        answered: Callable[[A, P], None],
        num_workers: int,
    ) -> None:
        self.dealer, self.pieces, self.ask, self.answered = dealer, pieces, ask, answered
        self.num_told = 0
        self.num_again, self.num_spare = 0, 0  # pieces given to another worker, and done by the caller
        self.state = Condition()
        self.waiting = deque(range(len(pieces)))
        self.since: dict[int, float] = {}  # when each piece that is out was last given to somebody
        self.answers: dict[int, A] = {}
        self.num_working = num_workers  # those that are not lost
        self.error: BaseException | None = None
        self.over = False
        self.owing: dict[str, float] = {}  # the workers that are asked at the moment, and since when

    def work(self, worker: str) -> None:
        """Ask one worker for piece after piece, with a pause after each failure."""
        with self.state:
            if worker in self.dealer.until:
                self._pause(worker)
            while not self.over:
                piece = self._take()
                if piece is None:
                    self.state.wait(TICK)
                elif not self._asked(worker, piece):
                    self._pause(worker)

    def _asked(self, worker: str, piece: int) -> bool:
        """Whether the worker did the piece. Called and left with the state held."""
        began, answer, error = time.monotonic(), None, None
        self.owing[worker] = began
        self.state.release()
        try:
            answer = [self.ask(worker, self.pieces[piece])]
        except BaseException as found:  # handed to the thread that deals, or counted as a loss
            error = found
        self.state.acquire()
        del self.owing[worker]
        self.dealer.hanging.discard(worker)
        if answer is not None:
            self.dealer.keep(worker, time.monotonic() - began)
            self._done(piece, answer[0])
        elif isinstance(error, self.dealer.failures):
            self.dealer.lose(worker, error)
            if piece not in self.answers and piece not in self.waiting:
                self.num_again += 1
                self.waiting.appendleft(piece)
        else:
            self.error = error
        self.state.notify_all()
        return error is None

    def _pause(self, worker: str) -> None:
        """Wait, among those that are lost, until the worker may be asked again."""
        self.num_working -= 1
        self.state.notify_all()
        while not self.over and (seconds := self.dealer.until.get(worker, 0.0) - time.monotonic()) > 0:
            self.state.wait(seconds)
        self.num_working += 1

    def _take(self) -> int | None:
        """The next piece, or one that another worker is late with."""
        now = time.monotonic()
        late = [piece for piece, since in self.since.items() if piece not in self.answers and self.dealer.is_late(now - since)]
        if not self.waiting and not late:
            return None
        if not self.waiting:
            self.num_again += 1
        piece = self.waiting.popleft() if self.waiting else late[0]
        self.since[piece] = now
        return piece

    def _done(self, piece: int, answer: A) -> None:
        self.answers.setdefault(piece, answer)
        if piece in self.waiting:  # the late one was faster than the next
            self.waiting.remove(piece)
        try:
            while not self.over and self.num_told in self.answers:
                self.answered(self.answers[self.num_told], self.pieces[self.num_told])
                self.num_told += 1
        except BaseException as error:  # handed to the thread that waits for the answers
            self.error = error

    def finished(self, spare: Callable[[P], A], between: Callable[[], None] = lambda: None) -> list[A]:
        """All answers, in order, once they are there. `spare(piece)` does in this thread what is left while no worker can be
        asked. `between` is called twice a second and may raise to end the deal."""
        try:
            with self.state:
                while len(self.answers) < len(self.pieces) and self.error is None:
                    self._go_on(spare, between)
                if self.error is not None:
                    raise self.error
                return [self.answers[index] for index in range(len(self.pieces))]
        finally:
            self.end()

    def _go_on(self, spare: Callable[[P], A], between: Callable[[], None]) -> None:
        """Wait a moment, or do a piece. Called and left with the state held."""
        piece = self._take() if self._is_alone() else None
        if piece is None:
            self.state.wait(TICK)
        self.state.release()
        try:
            own = None if piece is None else [spare(self.pieces[piece])]
            between()
        finally:
            self.state.acquire()
        if piece is not None and own is not None:
            self.num_spare += 1
            self._done(piece, own[0])

    def _is_alone(self) -> bool:
        """Whether every worker is lost, or late."""
        now = time.monotonic()
        return sum(self.dealer.is_late(now - began) for began in self.owing.values()) >= self.num_working

    def end(self) -> None:
        """Ask nobody any more. What is asked already goes on by itself, and its answer is thrown away."""
        with self.state:
            self.over = True
            self.dealer.hanging.update(self.owing)
            self.state.notify_all()
