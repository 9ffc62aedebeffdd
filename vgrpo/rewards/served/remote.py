"""The client of a reward in a process of its own, on this machine or another: `--reward remote=http://HOST:PORT`."""

import time
import urllib.request
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.served.wire import pack, scores_of
from vgrpo.support.http.client import NO_ANSWER, fetch, reason_of
from vgrpo.support.http.hosts import checked_address
from vgrpo.support.http.strict import strict_json
from vgrpo.support.http.token import TOKEN, authorization
from vgrpo.support.secrets import redact


class Remote:
    """Asks in batches, tries again when no usable answer comes, then gives up on that batch: NaN."""

    def __init__(
        self, url: str, *, batch_size: int = 64, timeout: float = 300.0, num_tries: int = 3, pause: float = 2.0
    ) -> None:
        self.url, self.batch_size, self.timeout = url, batch_size, timeout
        self.num_tries, self.pause = num_tries, pause
        try:
            self.__name__ = _name(self._ask(None))
        except NO_ANSWER as error:
            raise ConnectionError(
                f"reward remote={url}: no reward server answers there ({reason_of(error)}); start one with "
                f"`vgrpo serve-reward NAME`, correct its address, or set {TOKEN} to the server's own"
            ) from error

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """[B]; NaN where the reward failed or no answer came. Raises RewardError, with the reason, if that is so everywhere."""
        parts, reason = [], None
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            scores, failed = self._score(images[rows], prompts[rows])
            parts.append(scores)
            reason = failed or reason
        scores = torch.cat(parts)
        if reason and scores.isnan().all():
            raise RewardError(f"reward remote={self.url}: not one score for {len(images)} images, the last: {reason}")
        return scores

    def judges(self, prompt: Prompt) -> bool:
        """Every prompt, as far as the client knows: without a score it failed, as the server's null says no more."""
        return True

    def _score(self, images: Tensor, prompts: list[Prompt]) -> tuple[Tensor, str | None]:
        """Scores, and why there are none if there are none."""
        body, reason = pack(images, prompts), None
        for attempt in range(self.num_tries):
            try:
                answer = self._ask(body)
                told = answer.get("error") if isinstance(answer, dict) else None
                return scores_of(answer, len(images)), redact(str(told))[:500] if told else None
            except NO_ANSWER as error:
                reason = reason_of(error)
                if attempt + 1 < self.num_tries:
                    time.sleep(self.pause * 2**attempt)
        return torch.full((len(images),), torch.nan), reason

    def _ask(self, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/octet-stream"} | authorization()
        return strict_json(fetch(urllib.request.Request(self.url, body, headers), self.timeout))


def _name(greeting: Any) -> str:
    name = greeting.get("reward") if isinstance(greeting, dict) else None
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 100:
        raise ValueError("it does not say which reward it serves")
    return name


def remote(source: str | None, device: str) -> Remote:
    """Raises ValueError for what is no address, ConnectionError if no server answers."""
    if not source:
        raise ValueError("reward remote=: give the server's address, --reward remote=http://HOST:PORT")
    return Remote(checked_address(source, "reward remote: give the server's address, --reward remote=http://HOST:PORT"))
