"""Files that other processes see whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft to write to, which takes `path`'s place at the end."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    yield draft
    draft.replace(path)


def write_whole(path: Path, text: str) -> None:
    with whole(path) as draft:
        draft.write_text(text)
