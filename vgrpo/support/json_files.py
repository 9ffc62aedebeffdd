"""JSON in a run's folder, as a machine that failed may have left it."""

import json
import math
from pathlib import Path
from typing import Any

from vgrpo.support.files import write_whole


def read_json(path: Path) -> Any:
    """Raises ValueError, naming the file and the way out, for what is not JSON. NaN, which is none, is read as None."""
    try:
        return json.loads(path.read_text(), parse_constant=lambda name: None)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it, and it is made again") from error


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all; numbers that are not finite become null."""
    write_whole(path, json.dumps(finite(content), indent=1, allow_nan=False))


def read_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a file with one a line, and whether a last line was torn and left out.

    Raises ValueError for a line in the middle that is not an object: that is damage, not an interrupted write.
    """
    if not path.exists():
        return [], False
    lines = path.read_bytes().split(b"\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        is_last = number == len(lines)
        if is_last and not line:
            break
        value = _object(line)
        if value is None:
            if is_last:  # a write that was cut off, as no line break follows
                return found, True
            raise ValueError(f"{path}, line {number}: damaged ({line[:60].decode(errors='replace')!r}); delete that line")
        found.append(value)
    return found, False


def line_of(values: dict[str, Any]) -> str:
    """One line for such a file."""
    return json.dumps(finite(values), allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The same with None in place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line, parse_constant=lambda name: None)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
