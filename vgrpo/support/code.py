"""Which code this is: to tell whether two processes run the same."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

NUMERIC = ("torch", "diffusers", "transformers", "peft")
"""Packages whose version decides what is computed."""


@cache
def code_digest() -> str:
    """Of all Python files of this package, by name and content, and of the versions of what computes."""
    package, digest = Path(__file__).parents[1], hashlib.blake2b(digest_size=16)
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    digest.update("".join(f"{name} {version(name)}\n" for name in NUMERIC).encode())
    return digest.hexdigest()
