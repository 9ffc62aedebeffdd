"""A reward in a process of its own: `vgrpo serve-reward NAME`, for training runs that ask by `--reward remote=http://HOST:PORT`."""

import hmac
import json
import re
import socket
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Lock, Timer
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Reward, RewardError, score_images
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.served.hosts import LOCAL_NAMES, hostname_of, is_loopback
from vgrpo.rewards.served.remote import TOKEN, token
from vgrpo.rewards.served.settings import ServeConfig
from vgrpo.rewards.served.wire import Limits, unpack
from vgrpo.support.version import VERSION

MOST_CONNECTIONS = 32
"""At once; more are closed, and their clients try again."""
PATIENCE = 1.0
"""Seconds in which a client whose request is refused may read why, while what it still sends is thrown away."""


class Refused(Exception):
    """A request that is not answered with scores: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class RewardServer(ThreadingHTTPServer):
    """Loads a reward and answers for it, one batch at a time.

    Raises ValueError or FileNotFoundError as `load_reward`, ValueError if other machines could ask without a token, OSError if
    the port is taken.
    """

    def __init__(self, name: str, config: ServeConfig) -> None:
        self.token = token()
        if not self.token and not is_loopback(config.host):
            raise ValueError(
                f"--host {config.host} lets other machines in: set {TOKEN} to a secret word, here and for the training runs, "
                "or leave out --host"
            )
        self.name, self.config = name, config
        self.hosts = {
            *LOCAL_NAMES,
            *map(str.lower, (config.host, f"[{config.host}]", socket.gethostname(), *config.allow_host)),
        }
        self.scoring, self.connections = Lock(), BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        super().__init__((config.host.strip("[]"), config.port), Handler, bind_and_activate=False)
        try:
            self._bind()
            self.reward: Reward = load_reward(name, config.device)
            self.server_activate()
        except BaseException:
            self.server_close()
            raise

    def _bind(self) -> None:
        """Take the port before minutes of loading; nobody is let in until the reward is there."""
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
        """A client that went away is no news."""

    def greeting(self) -> dict[str, Any]:
        """What a client must know: servers of one reward must be alike, and some rewards judge a prompt's images together."""
        groups = bool(getattr(self.reward, "judges_groups", False))
        return {"reward": self.name, "version": VERSION, "judges_groups": groups}

    def scores(self, images: Tensor, prompts: list[Prompt]) -> dict[str, Any]:
        """What a request is answered with; if the reward failed on all its images, also why."""
        with self.scoring, torch.no_grad():  # one batch at a time on the reward's device
            try:
                values = score_images(self.reward, images, prompts, timeout=self.config.score_seconds, notice=_ignore).tolist()
            except RewardError as error:
                return {"scores": [None] * len(images), "error": str(error)}
        return {"scores": [None if value != value else value for value in values]}


def make_server(name: str, config: ServeConfig) -> RewardServer:
    """A server that has loaded the reward and waits."""
    return RewardServer(name, config)


def _ignore(text: str) -> None:
    """The client sees which scores are missing."""


class Handler(BaseHTTPRequestHandler):
    """One request, after which the connection is closed."""

    server: RewardServer
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
        self._reply(self.server.greeting)

    def do_POST(self) -> None:
        self._reply(self._scores)

    def _scores(self) -> dict[str, Any]:
        body = self._body(self._length())
        self.clock.cancel()
        limits = Limits(images=self.server.config.max_images, pixels=self.server.config.max_pixels)
        with TemporaryDirectory() as folder:  # of source pictures
            try:
                images, prompts = unpack(body, limits, Path(folder))
            except ValueError as error:
                raise Refused(400, f"{type(error).__name__}: {str(error)[:300]}") from error
            return self.server.scores(images, prompts)

    def _reply(self, answer: Any) -> None:
        try:
            self._admit()
            status, content = 200, answer()
        except Refused as refusal:
            status, content = refusal.status, {"error": str(refusal)}
        self.clock.cancel()
        self._send(status, json.dumps(content).encode())
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

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
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
