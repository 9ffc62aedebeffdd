"""Everything that happens in a run, as a stream of events. The console, metrics.jsonl and trackers listen to it."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vgrpo.core.types import Rollout
from vgrpo.rewards.base import Scores
from vgrpo.support.secrets import redact
from vgrpo.training.settings.config import Config

Values = dict[str, float]
"""An iteration's line of metrics.jsonl."""


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    folder: Path
    config: Config
    iteration: int
    """0, or where a resumed run goes on."""
    past: list[Values]
    """The lines of the iterations before."""


@dataclass(frozen=True, kw_only=True)
class PhaseBegan:
    name: str
    """rollout, reward, update, evaluation of the base model, ..."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class PhaseAdvanced:
    """How far a phase with parts is, told before each part."""

    name: str
    done: int
    """Images, optimiser steps, or texts."""
    total: int


@dataclass(frozen=True, kw_only=True)
class PhaseEnded:
    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ImagesJudged:
    """This process's images of an iteration, before the model learns from them."""

    iteration: int
    """Counted from 0."""
    rollout: Rollout
    scores: Scores
    reward: Tensor
    """[B], what is trained on; NaN where there is none."""
    advantage: Tensor
    """[B], of all actions of an image the mean."""


@dataclass(frozen=True, kw_only=True)
class IterationDone:
    iteration: int
    """Counted from 0."""
    values: Values


@dataclass(frozen=True, kw_only=True)
class SamplesDrawn:
    folder: Path
    iteration: int


@dataclass(frozen=True, kw_only=True)
class AlarmRaised:
    monitor: str
    iteration: int


@dataclass(frozen=True, kw_only=True)
class Noticed:
    """What a person who watches the run should know."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Steered:
    """Somebody changed the run while it went on."""

    command: str
    iteration: int
    """Counted from 0; the first one that it holds for."""
    value: float | None = None
    """The new learning rate."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved:
    path: Path
    iteration: int


@dataclass(frozen=True, kw_only=True)
class RunStopped:
    """The run ended early and can go on."""

    folder: Path
    reason: str
    checkpoint: Path | None
    """Where everything is; None if nothing could be saved."""


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    folder: Path
    evaluation: dict[str, Any]
    weights: Path


Event = (
    RunStarted
    | PhaseBegan
    | PhaseAdvanced
    | PhaseEnded
    | ImagesJudged
    | IterationDone
    | SamplesDrawn
    | AlarmRaised
    | Noticed
    | Steered
    | CheckpointSaved
    | RunStopped
    | RunFinished
)
Listener = Callable[[Event], None]


class Events:
    """Hands every event to every listener, in order."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self.listeners = list(listeners)
        self._noticed: set[str] = set()

    def emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def notice(self, text: str) -> None:
        """Each text once, without secrets: what goes wrong at every batch is one thing to know."""
        text = redact(text)
        if text not in self._noticed:
            self._noticed.add(text)
            self.emit(Noticed(text=text))

    @contextmanager
    def phase(self, name: str, clock: Values | None = None, detail: str = "") -> Iterator[None]:
        """A part of the run that takes time. Adds its seconds to `clock`, where one is given."""
        self.emit(PhaseBegan(name=name, detail=detail))
        begin = time.perf_counter()
        yield
        seconds = time.perf_counter() - begin
        if clock is not None:
            clock[name] = clock.get(name, 0.0) + seconds
        self.emit(PhaseEnded(name=name, seconds=seconds))
