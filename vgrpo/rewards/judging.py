"""Images that are judged while others are drawn.

In a rollout every call of a reward gets the images of one prompt, however many are drawn at once and however many processes
there are. So the overlap changes no score, and a reward that compares the images of a prompt sees all of them.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Answers, Reward, RewardError, ask
from vgrpo.rewards.calls import NoAnswer, has_own_processes
from vgrpo.rewards.lanes import PATIENCE, Clock, Lane, patience_after

MOST_SILENT = 3
"""If its first so many calls gave nothing and took long, a reward is not asked again for these images."""
LONG = 60.0
"""Seconds."""


class _Part(NamedTuple):
    """A call: of which images, and what it will return."""

    rows: Tensor  # [b]
    answers: "Future[Answers] | Callable[[], Answers]"


class Judging:
    """The rewards of some images. `add` hands over images as they are drawn; `answers` waits for a reward's.

    Each call has `size` neighbouring images (None: all at once). `asked` says which rewards judge which prompts, [B, R]. All
    rewards that compute in this process share the one thread of `lane`, the first `num_urgent` before the others; one that
    waits for other processes has threads of its own. A reward whose models are on `device`, which draws, judges when its
    answers are asked for: they would take the memory and the time of drawing.
    """

    def __init__(
        self,
        rewards: Sequence[Reward],
        asked: Callable[[list[Prompt]], Tensor],
        num_urgent: int,
        *,
        size: int | None = None,
        device: torch.device | None = None,
        lane: Lane | None = None,
    ) -> None:
        self.rewards, self.asked, self.size = rewards, asked, size
        self.num_urgent = num_urgent
        self.lane = lane or Lane(1)
        lanes = [self.lane if (count := getattr(reward, "num_at_once", None)) is None else Lane(count) for reward in rewards]
        self._lanes = [None if shares_device(reward, device) else lane for reward, lane in zip(rewards, lanes, strict=True)]
        self._own_lanes = {each for each in self._lanes if each is not None} - {lane}
        self._parts: list[list[_Part]] = [[] for _ in rewards]
        self._num_late, self._num_answered = [0] * len(rewards), [0] * len(rewards)
        self._images: list[Tensor] = []
        """Drawn, and not yet a whole call."""
        self._prompts: list[Prompt] = []
        self._num_sent = 0
        self._clock, self._seconds_waited = Clock(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(patience_after(kind))

    def close(self, patience: float = PATIENCE) -> None:
        """Begin no further call, wait so many seconds for one that is running in this process, and let go of the images."""
        for part in (part for parts in self._parts for part in parts):
            if isinstance(part.answers, Future):
                part.answers.cancel()
        for lane in self._own_lanes:
            lane.close(patience if lane is self.lane else 0.0)
        self._images, self._parts = [], []

    def add(self, images: Tensor, prompts: list[Prompt]) -> None:
        """More images [b, 3, H, W], and their prompts."""
        self._images.append(images)
        self._prompts += prompts
        while self.size is not None and len(self._prompts) - self._num_sent >= self.size:
            self._send(self.size)

    def flush(self) -> None:
        """No more images come for now: judge those that make no whole call, too."""
        if len(self._prompts) > self._num_sent:
            self._send(len(self._prompts) - self._num_sent)

    def wait(self) -> None:
        """Until everything that is judged beside the caller has an answer."""
        self.flush()
        wait([part.answers for parts in self._parts for part in parts if isinstance(part.answers, Future)])

    def answers(self, index: int) -> Answers:
        """To all images [B] that were added, NaN where the reward was not asked."""
        began = time.perf_counter()
        self.flush()
        values, last, news = torch.full((len(self._prompts),), torch.nan), None, list[str]()
        for part in self._parts[index]:
            answers = part.answers.result() if isinstance(part.answers, Future) else part.answers()
            values[part.rows], last = answers.values, answers.error or last
            news += answers.news
        self._seconds_waited += time.perf_counter() - began
        return Answers(values, last, tuple(news))

    @property
    def seconds(self) -> float:
        """In which a reward was at work."""
        return self._clock.seconds

    @property
    def seconds_hidden(self) -> float:
        """Of these, those in which nobody waited for it."""
        return max(0.0, self.seconds - self._seconds_waited)

    def _send(self, count: int) -> None:
        """Ask every reward about the next images."""
        images = self._images[0] if len(self._images) == 1 else torch.cat(self._images)
        prompts = self._prompts[self._num_sent : self._num_sent + count]
        self._images = [images[count:]] if len(images) > count else []
        asked = self.asked(prompts)
        for index, lane in enumerate(self._lanes):
            rows = asked[:, index].nonzero()[:, 0]
            if len(rows) == 0:
                continue
            own = images[:count] if len(rows) == count else images[rows]
            run = partial(self._ask, index, own, [prompts[row] for row in rows.tolist()])
            answers: Any = run if lane is None else lane.submit(run, rank=int(index >= self.num_urgent))
            self._parts[index].append(_Part(rows + self._num_sent, answers))
        self._num_sent += count

    def _ask(self, index: int, images: Tensor, prompts: list[Prompt]) -> Answers:
        nothing = torch.full((len(images),), torch.inf)
        if self._num_late[index] >= MOST_SILENT and self._num_answered[index] == 0:
            why = f"no answer to the first {MOST_SILENT} calls, which took long; it was asked no more"
            return Answers(nothing, NoAnswer(why))
        began = time.perf_counter()
        with self._clock, torch.no_grad():  # images may come from threads, which begin with gradients
            try:
                answers = ask(self.rewards[index], images, prompts)
            except RewardError as error:
                answers = Answers(nothing, error)
        if answers.values.isinf().all():
            self._num_late[index] += isinstance(answers.error, NoAnswer) or time.perf_counter() - began > LONG
        else:
            self._num_answered[index] += 1
        return answers


def shares_device(reward: Reward, device: torch.device | None) -> bool:
    """Whether a reward says, by its `device`, that its models compute in this process where images are drawn. On a CPU, too,
    it could only take the drawing's cores, and torch's choice of an attention kernel is one for the whole process."""
    own = getattr(reward, "device", None)
    if own is None or device is None or has_own_processes(reward):
        return False
    own = torch.device(own)
    return own.type == device.type and (None in (own.index, device.index) or own.index == device.index)
