"""The workers that draw a run's images, as the run sees them: `--rollout-workers http://a:8200 http://b:8200`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request

from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.sampling.served.wire import KIND, UNKNOWN_WEIGHTS, Order, name_of_weights, order_to_json, unpack_images
from vgrpo.sampling.settings import Sampling
from vgrpo.support.dealing import Deal, Dealer
from vgrpo.support.http.client import NO_ANSWER, fetch, reason_of
from vgrpo.support.http.strict import strict_json
from vgrpo.support.http.token import TOKEN, authorization
from vgrpo.training.rollouts.addresses import Addresses

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
    """Deals groups over workers. Their addresses are looked up for each rollout: workers may come and go. `own` is the
    `likeness` of the run, that no worker draws other images; each is compared when it is new and when it comes back."""

    def __init__(self, given: Sequence[str], own: dict[str, Any]) -> None:
        self.addresses, self.own = Addresses(given), own
        self.alike: set[str] = set()
        """Those that were compared, and have answered since."""
        self.said: SimpleQueue[str] = SimpleQueue()
        self.dealer = Dealer(failures=NO_ANSWER, notice=lambda text: self.said.put(f"rollout worker {text}"), reason=_reason)

    def compare(self, notice: Callable[[str], None]) -> None:
        """Before the first rollout. Raises ValueError for a worker that would draw other images than this process,
        ConnectionError if none answers; `notice` is told of those that do not."""
        reasons = list[str]()
        for address in self.addresses.now(notice):
            try:
                told = _told(address)
            except NO_ANSWER as error:
                reasons.append(f"rollout worker {address} does not answer ({reason_of(error)})")
                continue
            if why := _difference(self.own, told):
                raise ValueError(f"rollout worker {address}: {why}")
            self.alike.add(address)
        if not self.alike:
            first = next(iter(reasons), "no rollout worker is there")
            raise ConnectionError(
                f"{first}; start one with `vgrpo serve-rollout MODEL`, correct its address, or set {TOKEN} to the worker's own"
            )
        for reason in reasons:
            notice(reason)

    def tell(self, notice: Callable[[str], None]) -> None:
        """What happened to workers, which threads have noticed, from the thread that may speak."""
        while not self.said.empty():
            notice(self.said.get())

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
            with self._compared(address):
                body = self._drawn(address, order_to_json(order), weights)
            return Drawn(*unpack_images(body, name, (len(piece.images), *shape)))

        addresses = self.addresses.now(self.said.put)
        self.alike.intersection_update(addresses)
        return self.dealer.begin(pieces, addresses, ask, answered)

    @contextmanager
    def _compared(self, address: str) -> Iterator[None]:
        """For a request to a worker that draws the run's images. Raises _Unlike for another; what fails inside makes it
        unknown, as another may come back in its place."""
        if address not in self.alike:
            if why := _difference(self.own, _told(address)):
                raise _Unlike(why)
            self.alike.add(address)
        try:
            yield
        except NO_ANSWER:
            self.alike.discard(address)
            raise

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


class _Unlike(ValueError):
    """A worker would draw other images than the run."""


def _reason(error: Exception) -> str:
    return (str(error) if isinstance(error, _Unlike) else reason_of(error))[:400]


def _told(address: str) -> Any:
    """What a worker says of itself. Raises one of NO_ANSWER."""
    return strict_json(fetch(Request(address, headers=authorization()), 60.0))


def _difference(own: dict[str, Any], told: Any) -> str | None:
    """Why one who tells this of itself would draw other images than the run, and what to do; None for one that is alike."""
    if not isinstance(told, dict) or told.get("kind") != KIND:
        return "what answers there is no `vgrpo serve-rollout`; correct its address"
    for name, value in own.items():
        if told.get(name) != value:
            there, here = str(told.get(name))[:60], str(value)[:60]
            return f"its {name} is {there}, where the run has {here}, so its images would be others; {_way(name, own)}"
    return None


def _way(name: str, own: dict[str, Any]) -> str:
    """How to make it alike."""
    if name == "code":
        return "install the same versions of vgrpo, torch, diffusers, transformers and peft in both places"
    if name == "precision":
        return f"start it with --precision {'bf16' if own['precision'] == 'bfloat16' else 'fp32'}"
    return "start it with the run's model, --memory.weights, --resolution and --max-sequence-length"
