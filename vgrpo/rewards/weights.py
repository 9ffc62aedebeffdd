"""Weights of reward models, from the hub or a folder."""

from typing import Any


def fetch(kind: Any, source: str, reward: str, size: str) -> Any:
    """`kind.from_pretrained(source)`. Raises FileNotFoundError that says what is missing, how large it is and how to get it."""
    try:
        return kind.from_pretrained(source)
    except OSError as error:
        raise FileNotFoundError(
            f"reward {reward}: no weights at {source} ({size}), neither as a folder nor in the hub's cache, and the hub did "
            f"not answer; with a network run `hf download {source}`, or give a folder: --reward {reward}=FOLDER"
        ) from error
