"""What comes of asking a reward's server, other than an answer."""

from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError

NO_ANSWER = (OSError, HTTPException, ValueError, LookupError, TypeError, OverflowError)
"""No server, too slow, not HTTP, broken off, content of another form, or an address that is none."""


def told(error: Exception) -> str:
    """The error in one line; of a refusal its status and the start of what the server wrote, which often says why."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, HTTPError):
        text = f"HTTP {error.code} {error.reason}"
        with suppress(OSError, HTTPException), error:
            text += f": {error.read(300).decode(errors='replace')}"
    return " ".join(text.split())
