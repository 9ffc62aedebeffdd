"""The client of a reward in processes of its own, on this machine or others: `--reward remote=http://HOST:PORT`."""

import threading
import time
import urllib.request
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.batches import by_prompt, cut
from vgrpo.rewards.served.servers import WHAT, Server, Servers, Unanswered
from vgrpo.rewards.served.wire import pack, scores_of
from vgrpo.support.http.client import fetch
from vgrpo.support.http.strict import strict_json
from vgrpo.support.http.token import TOKEN, authorization
from vgrpo.support.pace import Pace
from vgrpo.support.secrets import in_one_line, redact

LONGEST_GREETING = 30.0
"""Seconds for a server to say what it serves."""
LONGEST_PAUSE = 8.0
"""Seconds between two tries."""
SHORTEST_PATIENCE = 10.0
"""Seconds. A server that takes this long, and three times as long as any lately, may be lost: another is asked, too."""


class _Answer(NamedTuple):
    """A server's scores [B], or none; and why scores are missing, where somebody said so."""

    scores: Tensor | None
    reason: str | None
    gone: bool = False
    """Whether there is no server to be seen."""


class Remote:
    """Asks in batches. A batch that one server does not answer goes to another; when none has, all are tried again, so many
    times, and as long as none is to be seen for `outage` seconds. Then that batch is given up: it has failed."""

    num_at_once = 32
    """Batches on their way; each waits for a server that is idle."""

    def __init__(
        self,
        url: str,
        *,
        batch_size: int = 64,
        timeout: float = 300.0,
        num_tries: int = 3,
        pause: float = 2.0,
        patience: float = SHORTEST_PATIENCE,
        outage: float = 60.0,
    ) -> None:
        self.url, self.batch_size, self.timeout = url, batch_size, timeout
        self.num_tries, self.pause, self.patience, self.outage = num_tries, pause, patience, outage
        try:
            self.servers = Servers(url, self._ask)
        except ConnectionError as error:
            raise ConnectionError(
                f"reward remote={url}: no reward server answers there ({error}); start one with `vgrpo serve-reward NAME`, "
                f"correct its address, or set {TOKEN} to the server's own"
            ) from error
        self.__name__, self.judges_groups = self.servers.greeting.called, self.servers.greeting.judges_groups
        self.news = self.servers.news
        self._pace = Pace()

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """[B]; NaN where the reward abstained, infinite where it failed or no answer came. Raises RewardError, with the reason,
        if that is so everywhere."""
        scores, reason = torch.full((len(images),), torch.inf), None
        for rows in by_prompt(prompts) if self.judges_groups else cut(list(range(len(images))), self.batch_size):
            scores[rows], failed = self._score(images[rows], [prompts[row] for row in rows])
            reason = failed or reason
        if reason and scores.isinf().all():
            raise RewardError(f"reward remote={self.url}: not one score for {len(images)} images, the last: {reason}")
        return scores

    def _score(self, images: Tensor, prompts: list[Prompt]) -> tuple[Tensor, str | None]:
        """Scores, and why there are none if there are none."""
        body, began, attempt = pack(images, prompts), time.monotonic(), 0
        while True:
            self.servers.refresh()
            answer = self._first_answer(body, len(images))
            if answer.scores is not None:
                return answer.scores, answer.reason
            attempt += 1
            all_are_gone = answer.gone and self.servers.answered < began and time.monotonic() - began < self.outage
            if attempt >= self.num_tries and not all_are_gone:
                return torch.full((len(images),), torch.inf), answer.reason
            time.sleep(min(self.pause * 2 ** (attempt - 1), LONGEST_PAUSE))

    def _first_answer(self, body: bytes, count: int) -> _Answer:
        """What the first of the servers says, and why there are no scores. Each is asked at most once: the next one when one
        fails, or is late while another is idle."""
        answers: SimpleQueue[_Answer] = SimpleQueue()
        asked, answer, num_told, late = list[Server](), _Answer(None, None), 0, False
        while answer.scores is None:
            nobody_works = len(asked) == num_told
            if nobody_works or late:
                server = self.servers.take(set(asked), wait=nobody_works)
                if server is not None:
                    if late:
                        asked[-1].late = True
                    asked.append(server)
                    self._begin(server, body, count, answers)
                elif nobody_works:
                    break
            try:
                answer, late = answers.get(timeout=max(self.patience, 3 * self._pace.slowest)), False
                num_told += 1
            except Empty:
                late = True
        return answer

    def _begin(self, server: Server, body: bytes, count: int, answers: "SimpleQueue[_Answer]") -> None:
        """Ask in a thread, which a server that never answers does not keep the others from."""

        def ask() -> None:
            began, outcome = time.monotonic(), _Answer(None, "it was not asked")
            try:
                with self.servers.turn(server):
                    said = self._ask(server.url, body)
                    scores = scores_of(said, count)
                    told = said.get("error")
                self._pace.add(time.monotonic() - began)
                outcome = _Answer(scores, redact(str(told))[:500] if told else None)
            except Unanswered as error:
                outcome = _Answer(None, str(error), error.gone)
            except Exception as error:
                outcome = _Answer(None, in_one_line(error))
            finally:  # nothing may leave the one that waits without an answer
                answers.put(outcome)

        threading.Thread(target=ask, daemon=True).start()

    def _ask(self, url: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/octet-stream"} | authorization()
        timeout = self.timeout if body else min(self.timeout, LONGEST_GREETING)
        return strict_json(fetch(urllib.request.Request(url, body, headers), timeout))


def remote(source: str | None, device: str) -> Remote:
    """From addresses with commas between them, or a text file of them. Raises ValueError for what is no address,
    ConnectionError if no server answers."""
    if not source:
        raise ValueError(WHAT)
    return Remote(source)
