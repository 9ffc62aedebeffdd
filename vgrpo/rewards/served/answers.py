"""Asking a reward's server, and what comes of it other than an answer."""

import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from vgrpo.rewards import calls
from vgrpo.rewards.served.hosts import is_loopback
from vgrpo.support.secrets import redact

NO_ANSWER = (OSError, HTTPException, ValueError, LookupError, TypeError, OverflowError)
"""No server, too slow, not HTTP, broken off, content of another form, or an address that is none."""
MOST_BYTES = 2**20
"""Of an answer."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server that sends elsewhere would get our images and our key sent there."""

    def redirect_request(self, *args: Any) -> None:
        return None


def fetch(request: urllib.request.Request, timeout: float) -> bytes:
    """What a server answers, in `timeout` seconds for each step and for the reading. Raises one of NO_ANSWER.

    Follows no redirect. A proxy of the environment is asked only for servers on other machines.
    """
    proxies: dict[str, str] | None = {} if is_loopback(urlsplit(request.full_url).hostname or "") else None
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler(proxies))
    end, parts, size = time.monotonic() + 2 * timeout, [], 0
    with opener.open(request, timeout=timeout) as response:
        while part := response.read1(2**16):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise ValueError(f"an answer of more than {MOST_BYTES:,} bytes")
            if time.monotonic() > end:
                raise TimeoutError("timed out while the answer came")
        if response.length:
            raise IncompleteRead(b"".join(parts), response.length)
    return b"".join(parts)


def reason_of(error: Exception) -> str:
    """The error in one line; of a refusal its status and the start of what the server wrote, which often says why."""
    if not isinstance(error, HTTPError):
        return calls.reason_of(error)
    text = f"HTTP {error.code} {error.reason}"
    with suppress(OSError, HTTPException), error:
        text += f": {error.read(300).decode(errors='replace')}"
    return redact(" ".join(text.split()))
