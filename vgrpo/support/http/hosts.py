"""Addresses: which are of this machine alone, and which a user may give."""

import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from vgrpo.support.secrets import redact

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host.lower() == "localhost"


def hostname_of(header: str) -> str:
    """The name in a Host header, without its port: `[::1]` of `[::1]:8100`."""
    end = header.rfind("]") + 1 if header.startswith("[") else header.find(":")
    return (header[:end] if end > 0 else header).lower()


def checked_address(address: str, what: str) -> str:
    """The address of a server. Raises ValueError for one that is none, or that holds a secret: it is shown and saved."""
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{what}: {redact(address)!r} must begin with http:// or https://")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{what}: {redact(address)!r} is no address ({error}); correct its address") from error
    if "@" in parts.netloc:
        raise ValueError(f"{what}: an address with a password in it would be saved and shown; leave out all before @")
    if parts.query or parts.fragment:
        raise ValueError(f"{what}: leave out ? or # of the address and all behind it; it would be saved and shown")
    if not host or not all(letter.isprintable() and letter != " " for letter in address) or port == 0:
        raise ValueError(f"{what}: {redact(address)!r} is no address; correct its address")
    return address.rstrip("/")
