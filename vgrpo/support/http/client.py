"""Asking a server, and what comes of it other than an answer."""

import http.client
import socket
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from vgrpo.support.http.hosts import is_loopback
from vgrpo.support.secrets import in_one_line, redact

NO_ANSWER = (OSError, HTTPException, ValueError, LookupError, TypeError, OverflowError)
"""No server, too slow, not HTTP, broken off, content of another form, or an address that is none."""
MOST_BYTES = 2**20
"""Of an answer, unless more are asked for."""
SILENCE = 20
"""Seconds after which a machine that acknowledges nothing is lost. A busy server does not answer for long, but its machine
acknowledges that the connection is open; without asking for that, a cut cable would be waited out."""
KEPT_ALIVE = {"TCP_KEEPIDLE": SILENCE // 4, "TCP_KEEPINTVL": SILENCE // 4, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": SILENCE * 1000}
"""Linux has all of these; other systems lack some, and notice later."""
ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in KEPT_ALIVE.items() if hasattr(socket, name)),
)


class _Connection(http.client.HTTPConnection):
    """Over a socket that notices when the other machine is gone."""

    def connect(self) -> None:
        super().connect()
        for option in ALIVE:
            self.sock.setsockopt(*option)


class _SecureConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        for option in ALIVE:
            self.sock.setsockopt(*option)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, request)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server that sends elsewhere would get our images and our key sent there."""

    def redirect_request(self, *args: Any) -> None:
        return None


def fetch(request: urllib.request.Request, timeout: float, most_bytes: int = MOST_BYTES) -> bytes:
    """What a server answers, in `timeout` seconds for each step and for the reading. Raises one of NO_ANSWER.

    Follows no redirect. A proxy of the environment is asked only for servers on other machines.
    """
    proxies: dict[str, str] | None = {} if is_loopback(urlsplit(request.full_url).hostname or "") else None
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler(proxies), _Http, _Https)
    end, parts, size = time.monotonic() + 2 * timeout, [], 0
    with opener.open(request, timeout=timeout) as response:
        while part := response.read1(2**20):
            parts.append(part)
            size += len(part)
            if size > most_bytes:
                raise ValueError(f"an answer of more than {most_bytes:,} bytes")
            if time.monotonic() > end:
                raise TimeoutError("timed out while the answer came")
        if response.length:
            raise IncompleteRead(b"".join(parts), response.length)
    return b"".join(parts)


def reason_of(error: Exception) -> str:
    """The error in one line; of a refusal its status and the start of what the server wrote, which often says why."""
    if not isinstance(error, HTTPError):
        return in_one_line(error)
    text = f"HTTP {error.code} {error.reason}"
    with suppress(OSError, HTTPException), error:
        text += f": {error.read(300).decode(errors='replace')}"
    return redact(" ".join(text.split()))
