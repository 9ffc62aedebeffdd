"""How far a run and its phase are, and how long each still takes, from the run's events."""

import time
from collections.abc import Callable

from vgrpo.training.record.events import (
    Event,
    IterationDone,
    PhaseAdvanced,
    PhaseBegan,
    PhaseEnded,
    RunStarted,
    Steered,
)

BASE, TUNED = "evaluation of the base model", "evaluation of the tuned model"
RECENT = 10  # iterations that the time left is reckoned from


class Timing:
    """Fed with events. A phase with parts is timed by those that are done, another one by how long it took the last time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._begin(0, 0)

    def _begin(self, iteration: int, num_iterations: int) -> None:
        self.phase: str | None = None
        self.done, self.total = 0, 0
        """Parts of the phase; a total of 0 if it has none, or none is known yet."""
        self.iteration, self.num_iterations = iteration, num_iterations
        self.last: dict[str, float] = {}
        """Seconds of each phase when it was last complete."""
        self._advanced = 0.0  # seconds of the phase when its last part began
        self._phase_began = self._iteration_began = self.clock()
        self._iterations: list[float] = []  # seconds of the latest, with pictures and checkpoints between them
        self._paused = False

    def hear(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin(event.iteration, event.config.num_iterations)
            case PhaseBegan():
                self.phase, self.done, self.total = event.name, 0, 0
                self._phase_began = self.clock()
            case PhaseAdvanced() if event.name == self.phase:
                self.done, self.total = event.done, event.total
                self._advanced = self.clock() - self._phase_began
            case PhaseEnded():
                self.phase, self.last[event.name] = None, event.seconds
                if event.name == BASE:
                    self.last.setdefault(TUNED, event.seconds)
                    self._iteration_began = self.clock()  # before the first iteration
            case IterationDone():
                now = self.clock()
                if not self._paused:
                    self._iterations = [*self._iterations, now - self._iteration_began][-RECENT:]
                self.iteration, self._iteration_began, self._paused = event.iteration + 1, now, False
            case Steered() if event.command in ("pause", "resume"):
                self._paused = True  # its time is no measure

    @property
    def phase_seconds(self) -> float:
        """Of the phase so far."""
        return self.clock() - self._phase_began

    @property
    def phase_left(self) -> float | None:
        """Seconds; None while nothing is known."""
        if self.phase is None:
            return None
        if self.done:
            whole = self._advanced * self.total / self.done
        elif self.phase in self.last:
            whole = self.last[self.phase]
        else:
            return None
        return max(0.0, whole - self.phase_seconds)

    @property
    def phase_share(self) -> float | None:
        """How much of the phase is done, 0 to 1, by its time."""
        left = self.phase_left
        return None if left is None else self.phase_seconds / max(1e-9, self.phase_seconds + left)

    @property
    def left(self) -> float | None:
        """Seconds to the end of the run, with the evaluation after the last iteration; None before the first is done."""
        if not self._iterations:
            return None
        each = sum(self._iterations) / len(self._iterations)
        iterations = (self.num_iterations - self.iteration) * each
        in_this = 0.0 if self.phase == TUNED else min(each, self.clock() - self._iteration_began)
        last = (self.phase_left or 0.0) if self.phase == TUNED else self.last.get(TUNED, 0.0)
        return max(0.0, iterations - in_this) + last


def spelled(seconds: float) -> str:
    """A duration for people: 40 s, 3 min, 2 h 05 min."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
