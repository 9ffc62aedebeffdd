"""Rewards whose calls are dealt out to worker processes.

A call is one prompt's images, as in the run's own process, so the scores are the same. Where a reward says that it looks at
each image alone (`each_alone`), the images of a call are dealt out, too.
"""

import weakref
from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Reward
from vgrpo.rewards.batches import by_prompt
from vgrpo.rewards.calls import NoAnswer, keep_name
from vgrpo.rewards.found import remembers
from vgrpo.rewards.lanes import Lane
from vgrpo.rewards.pool.process import Worker, WorkerLost

MOST_ALONE = 4
"""Images of a call, where the reward looks at each alone."""


class Pool:
    """So many processes, each of which has loaded all the rewards. `timeout` is for one call.

    Raises ValueError if a reward cannot be loaded there.
    """

    def __init__(self, names: Sequence[str], num_workers: int, timeout: float | None = None) -> None:
        threads = max(1, torch.get_num_threads() // num_workers)
        self.num_workers, self.timeout = num_workers, timeout
        self.workers = [Worker(list(names), threads) for _ in range(num_workers)]
        self.news: list[str] = []
        """What a person should know, such as the death of a worker; who reads it empties it."""
        self._lane, self._idle = Lane(num_workers), SimpleQueue[Worker]()
        self._end = weakref.finalize(self, _end, self._lane, self.workers)
        try:
            for worker in self.workers:
                worker.wait()
                self._idle.put(worker)
        except BaseException as error:
            self.close()
            if isinstance(error, WorkerLost):
                raise ValueError(f"the reward {' or '.join(names)} cannot be loaded in a worker process: {error}") from error
            raise

    def scores(self, index: int, images: Tensor, prompts: list[Prompt], pieces: list[list[int]]) -> Tensor:
        """Of images [B, 3, H, W], each piece of them in one call. Infinite for a piece that no worker survived; raises NoAnswer
        if that is all of them."""
        asked = [self._lane.submit(partial(self._ask, index, images[rows], [prompts[row] for row in rows])) for rows in pieces]
        values, lost = torch.full((len(images),), torch.inf), list[NoAnswer]()
        for rows, future in zip(pieces, asked, strict=True):
            try:
                values[rows] = future.result()
            except NoAnswer as error:
                lost.append(error)
        if len(lost) == len(pieces):
            raise lost[-1]
        self.news += [f"some images get no score: {error}" for error in lost]
        return values

    def _ask(self, index: int, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """By a worker that is idle. One that dies is started again, and gets the images once more."""
        worker = self._idle.get()
        try:
            for _ in range(2):
                try:
                    if self._lane.closed:
                        raise NoAnswer("the run is being stopped")
                    if worker.process.poll() is not None:
                        worker.start()
                    return worker.ask(index, images, prompts, self.timeout)
                except (WorkerLost, ValueError) as error:  # ValueError: it could not load again
                    last = error
                    self.news.append(f"{error}; it is started again")
            raise NoAnswer(f"two worker processes were lost on them, the second so: {last}")
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        self._end()


def _end(lane: Lane, workers: list[Worker]) -> None:
    lane.close()
    for worker in workers:
        worker.close()


def pooled(pool: Pool, index: int, reward: Reward) -> Reward:
    """A reward that has this number in the pool, and was loaded here to know what it says of itself. What it remembers of the
    pictures that it judged (`Seen`) stays in the workers."""
    alone = bool(getattr(reward, "each_alone", False))

    def judge(images: Tensor, prompts: list[Prompt]) -> Tensor:
        return pool.scores(index, images, prompts, by_prompt(prompts, MOST_ALONE if alone else None))

    kept = keep_name(judge, reward)
    vars(judge).update(num_at_once=pool.num_workers, news=pool.news, end_workers=pool.close)
    if remembers(reward):
        vars(judge).pop("found", None)
    return kept
