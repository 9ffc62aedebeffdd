"""A user's text files: what cannot be read is said with the file and, where it is known, the line."""

from pathlib import Path
from typing import Any

import yaml


def read_text(path: Path) -> str:
    """UTF-8, perhaps behind the byte order mark that Excel and Notepad write. Raises ValueError for other bytes."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings by name. Raises ValueError if the file is no YAML or has no settings."""
    text = read_text(path)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{where}: not YAML ({getattr(error, 'problem', None) or error}); correct it there") from error
    except ValueError as error:  # e.g. of a date that there is not
        raise ValueError(f"{path}: a value is none ({error}); correct it there") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings; write them as lines of `name: value`")
    return values
