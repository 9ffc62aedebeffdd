"""The workers that draw a run's images, as the run sees them: `--rollout-workers http://a:8200 http://b:8200`."""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request

from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.models.policy import Policy
from vgrpo.sampling.served.wire import KIND, UNKNOWN_WEIGHTS, Order, likeness, name_of_weights, order_to_json, unpack_images
from vgrpo.sampling.settings import Sampling
from vgrpo.support.dealing import Deal, Dealer
from vgrpo.support.http.client import NO_ANSWER, fetch, reason_of
from vgrpo.support.http.hosts import checked_address
from vgrpo.support.http.strict import strict_json
from vgrpo.support.http.token import TOKEN, authorization

TIMEOUT = 3600.0
"""Seconds for one piece, with those of other processes before it. A machine that is gone, or a worker that is much slower than
the others, is noticed sooner (vgrpo/support/dealing.py)."""
MOST_SENT = 10
"""Times that a worker is sent the weights for one piece before it counts as lost."""
MOST_BYTES = 2**33
"""Of drawn images."""


class Named(NamedTuple):
    """Images of whole groups, by their names: what a worker is asked for at once."""

    seed: tuple[int | str, ...]
    prompts: list[Prompt]
    """One for each group."""
    images: list[tuple[int, int, int]]
    """As in an `Order`."""


class Drawn(NamedTuple):
    """Of B images."""

    latents: Tensor  # [B, *D] fp32
    images: Tensor  # [B, 3, H, W] fp32, on the CPU


class RolloutWorkers:
    """Deals groups over workers. Their addresses are looked up for each rollout: workers may come and go."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.said: SimpleQueue[str] = SimpleQueue()
        self.dealer = Dealer(failures=NO_ANSWER, notice=self.said.put, reason=_reason)

    def tell(self, notice: Callable[[str], None]) -> None:
        """What happened to workers, which threads have noticed, from the thread that may speak."""
        while not self.said.empty():
            notice(f"rollout worker {self.said.get()}")

    def begin(
        self,
        pieces: Sequence[Named],
        weights: bytes,
        sampling: Sampling,
        shape: tuple[int, ...],
        answered: Callable[[Drawn, Named], None],
    ) -> "Deal[Named, Drawn]":
        """Have pieces drawn by the weights of a file, with latents of `shape` [*D], beside what the caller does."""
        name = name_of_weights(weights)

        def ask(address: str, piece: Named) -> Drawn:
            texts = [prompt.text for prompt in piece.prompts]
            order = Order(weights=name, seed=piece.seed, texts=texts, images=piece.images, sampling=sampling)
            body = self._drawn(address, order_to_json(order), weights)
            return Drawn(*unpack_images(body, name, (len(piece.images), *shape)))

        return self.dealer.begin(pieces, tuple(self.addresses), ask, answered)

    def _drawn(self, address: str, order: bytes, weights: bytes) -> bytes:
        """A worker that has not got the weights is sent them: it was just started, or other runs have sent it theirs. That may
        happen again before it comes to the order."""
        for _ in range(MOST_SENT):
            try:
                return _post(f"{address}/draw", order)
            except HTTPError as error:
                if error.code != UNKNOWN_WEIGHTS:
                    raise
            _post(f"{address}/weights", weights)
        return _post(f"{address}/draw", order)


def _post(url: str, body: bytes) -> bytes:
    headers = {"Content-Type": "application/octet-stream"} | authorization()
    return fetch(Request(url, body, headers), TIMEOUT, MOST_BYTES)


def _reason(error: Exception) -> str:
    return reason_of(error)[:200]


def check_addresses(addresses: Sequence[str]) -> None:
    """Raises ValueError for what is no address."""
    for address in addresses:
        checked_address(address, "--rollout-workers: give addresses such as http://HOST:8200")


def check_alike(addresses: Sequence[str], policy: Policy, notice: Callable[[str], None]) -> None:
    """Raises ValueError for a worker that would draw other images than this process, ConnectionError if none answers."""
    own, reasons = likeness(policy), []
    for address in addresses:
        try:
            request = Request(address, headers=authorization())
            told = strict_json(fetch(request, 60.0))
        except NO_ANSWER as error:
            reasons.append(f"rollout worker {address} does not answer ({reason_of(error)})")
            continue
        _require_alike(address, own, told)
    if len(reasons) == len(addresses):
        raise ConnectionError(
            f"{reasons[0]}; start one with `vgrpo serve-rollout MODEL`, correct its address, or set {TOKEN} to the worker's own"
        )
    for reason in reasons:
        notice(reason)


def _require_alike(address: str, own: dict[str, Any], told: Any) -> None:
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise ValueError(f"rollout worker {address}: what answers there is no `vgrpo serve-rollout`; correct its address")
    for name, value in own.items():
        if told.get(name) != value:
            raise ValueError(
                f"rollout worker {address}: its {name} is {str(told.get(name))[:60]}, where the run has {str(value)[:60]}, so "
                f"its images would be others; {_way(name, own)}"
            )


def _way(name: str, own: dict[str, Any]) -> str:
    """How to make it alike."""
    if name == "code":
        return "install the same versions of vgrpo, torch, diffusers, transformers and peft in both places"
    if name == "precision":
        return f"start it with --precision {'bf16' if own['precision'] == 'bfloat16' else 'fp32'}"
    return "start it with the run's model, --memory.weights, --resolution and --max-sequence-length"
