"""JSON as files hold it: strict in writing, lenient where older versions wrote NaN, clear about what is broken."""

import json
import math
from pathlib import Path
from typing import Any

from vgrpo.support.files import write_whole
from vgrpo.support.textfiles import read_text


def read_json(path: Path) -> Any:
    """A file's value. NaN and infinities, which are no JSON, are read as None. Raises ValueError with file and line."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """The value of a text; `where` is how an error calls it."""
    try:
        return json.loads(text, parse_constant=lambda name: None, parse_float=_finite)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.rstrip("\n") else ""
        raise ValueError(f"{where}{line}: not JSON ({error.msg}); correct it, or put back a copy of the file") from None
    except RecursionError:
        raise ValueError(f"{where}: brackets are nested too deeply; put back a copy of the file") from None
    except ValueError:  # Python converts no integers of more than 4300 digits
        raise ValueError(f"{where}: a number is too long; put back a copy of the file") from None


def _finite(digits: str) -> float | None:
    number = float(digits)  # 1e999 is JSON, and infinite
    return number if math.isfinite(number) else None


def write_json(path: Path, value: Any) -> None:
    """Write a value whole, on the disk when this returns; numbers that are not finite become null."""
    write_whole(path, to_json(value, indent=1) + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
