"""The source image of an edit: which file a prompt names, and pictures inside a data set as files."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from PIL import Image

from vgrpo.core.types import Prompt
from vgrpo.support.files import whole

COLUMN = "image"


def with_source(prompt: Prompt, folder: Path, where: str) -> Prompt:
    """The prompt with the picture that its field `image` names, from `folder` on. Its metadata then hold the whole path. Lists
    of prompts often hold an address there, which stays what it is.

    Raises ValueError, naming the place, for a file that is not there or is no picture; only its first bytes are read.
    """
    name = prompt.metadata.get(COLUMN)
    if name in (None, "") or (
        isinstance(name, str) and "://" in name
    ):  # an address is no source: nothing is fetched from there
        return prompt
    if not isinstance(name, str | Path):
        raise ValueError(f"{where}: `{COLUMN}` must be the path of a picture, seen from {folder}; it is {str(name)[:80]!r}")
    path = (folder / name).absolute()
    check_picture(path, f"{where}: `{COLUMN}`")
    return dataclasses.replace(prompt, image=path, metadata=prompt.metadata | {COLUMN: str(path)})


def check_picture(path: Path, where: str) -> None:
    """Raises ValueError for a file that is not there or does not begin as a picture."""
    if not path.is_file():
        raise ValueError(f"{where}: no file {path}; correct the path, or give the field another name if it is no source image")
    try:
        with Image.open(path):
            pass
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where}: {path} is not a picture that can be read; take it out or save it again") from error


def stored(picture: dict[str, Any], folder: Path, where: str) -> str:
    """The path of a data set's picture, {"bytes", "path"}: its own file's, or a file that `folder` gets, named by its content.

    Raises ValueError for one that has neither.
    """
    content, path = picture.get("bytes"), picture.get("path")
    if content is None and path is None:
        raise ValueError(f"{where}: `{COLUMN}` has neither a picture nor a path; make the data set again")
    if content is None:
        return str(path)
    target = folder / hashlib.blake2b(content, digest_size=16).hexdigest()
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with whole(target) as draft:
            draft.write_bytes(content)
    return str(target)
