"""A service over HTTP whose clients are not trusted: limits of size, time and number, who may call it, and a token."""

import hmac
import json
import re
import socket
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Timer
from typing import Any, NamedTuple

from vgrpo.support.http.client import reason_of
from vgrpo.support.http.hosts import LOCAL_NAMES, hostname_of, is_loopback
from vgrpo.support.http.settings import ServiceConfig
from vgrpo.support.http.token import TOKEN, token

MOST_CONNECTIONS = 32
"""At once; more are closed, and their clients try again."""
PATIENCE = 1.0
"""Seconds in which a client whose request is refused may read why, while what it still sends is thrown away."""


class Refused(Exception):
    """A request that is not answered: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Answer(NamedTuple):
    """What is sent back, and of what kind it is."""

    body: bytes
    kind: str = "application/octet-stream"

    @classmethod
    def json(cls, content: Any) -> "Answer":
        return cls(json.dumps(content).encode(), "application/json")


class Service(ThreadingHTTPServer):
    """Takes the port when it is made, lets nobody in before it is `opened`, and answers each request in a thread.

    Raises ValueError if other machines could ask without a token, OSError if the port is taken.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.token, self.config = token(), config
        if not self.token and not is_loopback(config.host):
            raise ValueError(
                f"--host {config.host} lets other machines in: set {TOKEN} to a secret word, here and for the training runs, "
                "or leave out --host"
            )
        self.hosts = {
            *LOCAL_NAMES,
            *map(str.lower, (config.host, f"[{config.host}]", socket.gethostname(), *config.allow_host)),
        }
        self.connections = BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        super().__init__((config.host.strip("[]"), config.port), Handler, bind_and_activate=False)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Around what is loaded, which may take minutes: the port is taken before, and clients are let in after it."""
        try:
            self._bind()
            yield
            self.server_activate()
        except BaseException:
            self.server_close()
            raise

    @abstractmethod
    def greeting(self) -> dict[str, Any]:
        """What GET is answered with."""

    @abstractmethod
    def answer(self, path: str, body: bytearray) -> Answer:
        """What POST is answered with. Raises Refused, or ValueError for content that is none."""

    def _bind(self) -> None:
        try:
            self.server_bind()
        except (OSError, UnicodeError) as error:
            where = f"--host {self.config.host} --port {self.config.port}"
            raise OSError(
                f"{where}: cannot be listened at ({error}); choose another port, or this machine's address"
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a fault of ours is told where it was answered."""


class Handler(BaseHTTPRequestHandler):
    """One request, after which the connection is closed."""

    server: Service
    server_version, sys_version = "vgrpo", ""
    default_request_version = "HTTP/1.0"  # of what is not HTTP; answers to it have a status, too

    def setup(self) -> None:
        super().setup()
        seconds = self.server.config.read_seconds
        self.connection.settimeout(seconds)
        # A limit for each read alone would let a client stay that sends a byte a minute.
        self.clock = Timer(seconds, self._late)
        self.clock.daemon = True
        self.late = False
        self.clock.start()

    def finish(self) -> None:
        self.clock.cancel()
        super().finish()

    def _late(self) -> None:
        self.late = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def parse_request(self) -> bool:
        """What the clock cuts off can read like another request; such a client is left without an answer."""
        understood = not self.late and super().parse_request()
        if self.late:
            raise TimeoutError("the request did not arrive in time")
        return understood

    def do_GET(self) -> None:
        self._reply(lambda: Answer.json(self.server.greeting()))

    def do_POST(self) -> None:
        self._reply(self._answer)

    def _answer(self) -> Answer:
        body = self._body(self._length())
        self.clock.cancel()
        try:
            return self.server.answer(self.path, body)
        except ValueError as error:
            raise Refused(400, f"{type(error).__name__}: {str(error)[:300]}") from error

    def _reply(self, found: Callable[[], Answer]) -> None:
        try:
            self._admit()
            status, answer = 200, found()
        except Refused as refusal:
            status, answer = refusal.status, Answer.json({"error": str(refusal)})
        except Exception as error:  # a fault here: the client sees no log of this machine's, and we see none of the client's
            reason = reason_of(error)
            print(f"{self.command} {self.path[:100]!r} failed: {reason}", file=sys.stderr, flush=True)
            status, answer = 500, Answer.json({"error": reason})
        self.clock.cancel()
        self._send(status, answer)
        if status != 200:
            self._throw_away()

    def _admit(self) -> None:
        """Web pages in a browser on this machine can reach the port: they send Origin, or a Host that is not ours."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hostname_of(hosts[0].strip()) not in self.server.hosts:
            raise Refused(403, f"this server is not called {', '.join(hosts)[:100]!r}; --allow-host NAME lets it be")
        if "Origin" in self.headers:
            raise Refused(403, "requests of web pages, with an Origin, are not answered")
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        if self.server.token and not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise Refused(401, f"{TOKEN} is missing or not the server's")

    def _length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            raise Refused(411, "Transfer-Encoding is not taken; send a Content-Length")
        lengths = self.headers.get_all("Content-Length") or []
        if not lengths:
            raise Refused(411, "send a Content-Length")
        if len(lengths) != 1 or not re.fullmatch("[0-9]{1,18}", lengths[0].strip()) or int(lengths[0]) == 0:
            raise Refused(400, "the Content-Length must be one whole number above 0")
        most = self.server.config.megabytes * 10**6
        if int(lengths[0]) > most:
            raise Refused(413, f"{int(lengths[0]):,} bytes; {most:,} are taken at most")
        return int(lengths[0])

    def _body(self, length: int) -> bytearray:
        body = bytearray()
        try:
            while len(body) < length and (part := self.rfile.read1(min(2**20, length - len(body)))):
                body += part
        except OSError:
            part = b""
        if len(body) < length:
            raise Refused(408, f"{len(body):,} of {length:,} bytes came, within {self.server.config.read_seconds:g} s")
        return body

    def _send(self, status: int, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = True

    def _throw_away(self) -> None:
        """Closed at once, the connection would be reset, and the client would not see the answer."""
        end = time.monotonic() + PATIENCE
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(PATIENCE / 4)
            while time.monotonic() < end and self.connection.recv(2**16):
                pass

    def log_message(self, format: str, *args: Any) -> None:
        """A line per request would bury what matters."""
