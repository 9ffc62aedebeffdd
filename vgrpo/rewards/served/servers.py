"""Several servers of one reward: which there are, which of them answer, and whose turn it is."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from vgrpo.support.http.client import NO_ANSWER, reason_of
from vgrpo.support.http.hosts import checked_address

LONGEST_REST = 60.0
"""Seconds until a server that did not answer is asked again, at most; at first two, and twice as many after each failure."""
WHAT = "reward remote: give the server's address, --reward remote=http://HOST:PORT"


@dataclass(frozen=True)
class Greeting:
    """What a server says of itself. Servers that share the work must say the same."""

    reward: str
    version: str
    judges_groups: bool
    called: str
    """What it is called in a process that has it."""

    @classmethod
    def of(cls, answer: Any) -> "Greeting":
        """Raises ValueError for what no reward server says."""
        name = answer.get("reward") if isinstance(answer, dict) else None
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 100:
            raise ValueError("it does not say which reward it serves")
        called = answer.get("called", name)
        if not isinstance(called, str) or not called.isprintable() or not 0 < len(called) <= 100:
            raise ValueError("what its reward is called is no name")
        return cls(name, str(answer.get("version", ""))[:40], answer.get("judges_groups") is True, called)

    def __str__(self) -> str:
        return f"{self.reward} of vgrpo {self.version or '(not told)'}"


class Unanswered(Exception):
    """A server gave no usable answer; `gone` is whether it gave none at all, as one does that is being started again."""

    def __init__(self, reason: str, *, gone: bool) -> None:
        super().__init__(reason)
        self.gone = gone


@dataclass(eq=False)
class Server:
    """One of them."""

    url: str
    num_busy: int = 0
    num_failed: int = 0
    """Since it last answered."""
    rests_until: float = 0.0
    late: bool = False
    """Whether another one was asked in its place."""


class Servers:
    """The servers at `source`: addresses with commas between them, or a text file with one to a line, which is read again when
    it changes. `greet` asks an address what it serves.

    Raises ValueError for what is no address, and for servers that serve different things; ConnectionError if none answers.
    """

    def __init__(self, source: str, greet: Callable[[str], Any]) -> None:
        self.source, self.greet = source, greet
        self.news: list[str] = []
        self.answered = time.monotonic()
        """When one last did."""
        self._file = Path(source) if not source.startswith(("http://", "https://")) and Path(source).is_file() else None
        self._turn, self._written = threading.Condition(), 0
        self.servers = {url: Server(url) for url in self._addresses()}
        greetings, reasons = dict[str, Greeting](), list[str]()
        for url, server in self.servers.items():
            try:
                greetings[url] = Greeting.of(greet(url))
            except NO_ANSWER as error:
                self._rest(server)
                reasons.append(reason_of(error))
                self.news.append(f"no server answers at {url} yet ({reasons[-1]}); it is asked again")
        if not greetings:
            raise ConnectionError(reasons[-1])
        first, self.greeting = next(iter(greetings.items()))
        for url, greeting in greetings.items():
            if greeting != self.greeting:
                raise ValueError(
                    f"reward remote: {url} serves {greeting}, and {first} serves {self.greeting}; start all servers of one "
                    "reward alike"
                )

    def _addresses(self) -> list[str]:
        if self._file is None:
            words = self.source.split(",")
        else:
            self._written = self._file.stat().st_mtime_ns
            lines = (line.partition("#")[0] for line in self._file.read_text().splitlines())
            words = [word for line in lines for word in line.replace(",", " ").split()]
        addresses = [checked_address(word.strip(), WHAT) for word in words]
        if not addresses:
            raise ValueError(f"{WHAT}; there is none in {self.source}")
        return list(dict.fromkeys(addresses))

    def refresh(self) -> None:
        """Take up the addresses that were added to the file, and leave those that were taken out."""
        if self._file is None:
            return
        with self._turn:
            try:
                if self._file.stat().st_mtime_ns == self._written:
                    return
                found = self._addresses()
            except (OSError, ValueError) as error:
                self.news.append(f"{self.source} cannot be read ({error}); the servers stay as they were")
                return
            # A new one is greeted before its first images, as one that failed.
            self.servers = {url: self.servers.get(url) or Server(url, num_failed=1) for url in found}
            self._turn.notify_all()

    @contextmanager
    def turn(self, server: Server) -> Iterator[None]:
        """Note how asking a server went that `take` has given. Raises Unanswered, with the reason, where one of NO_ANSWER is
        raised inside, and for a server that serves something else by now."""
        try:
            if server.num_failed:
                greeting = Greeting.of(self.greet(server.url))
                if greeting != self.greeting:
                    raise ValueError(f"it serves {greeting}, and the others {self.greeting}, so it is not used")
            yield
        except NO_ANSWER as error:
            reason = reason_of(error)
            self.news.append(f"{server.url} is left for now: {reason}")
            self._rest(server)
            raise Unanswered(reason, gone=isinstance(error, OSError) and not isinstance(error, HTTPError)) from error
        else:
            if server.num_failed:
                self.news.append(f"{server.url} answers, and is used")
            server.num_failed, server.late = 0, False
            self.answered = time.monotonic()
        finally:
            with self._turn:
                server.num_busy -= 1
                self._turn.notify_all()

    def take(self, but: set[Server], *, wait: bool) -> Server | None:
        """One that is idle and is not `but` any of these; it is the caller's until `turn` is over. None if there is none, or
        with `wait` none that will be. Servers that rest are asked only if no other is left."""
        with self._turn:
            while True:
                left = [server for server in self.servers.values() if server not in but]
                awake = [server for server in left if server.rests_until <= time.monotonic()] or left
                idle = [server for server in awake if server.num_busy == 0]
                if idle:
                    server = min(idle, key=lambda server: (server.late, server.num_failed))
                    server.num_busy += 1
                    return server
                if not wait or not left:
                    return None
                self._turn.wait(1.0)

    def _rest(self, server: Server) -> None:
        server.num_failed += 1
        server.rests_until = time.monotonic() + min(LONGEST_REST, 2.0**server.num_failed)
