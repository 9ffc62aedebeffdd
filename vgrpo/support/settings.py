"""Settings objects to plain values, as YAML writes them, and back. A field's type says how its value is read."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from vgrpo.support.checks import require
from vgrpo.support.spelling import hint

T = TypeVar("T")
Families = Mapping[type, Callable[[dict[str, Any]], tuple[type, dict[str, Any]]]]
"""Base classes whose settings name the class that they are of: each with a function from the settings to that class and the
rest of them."""
NONE: Families = {}


def to_dict(settings: Any) -> dict[str, Any]:
    """Lists for tuples, text for paths."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    values: dict[str, Any] = plain(dataclasses.asdict(settings))
    return values


def from_dict(cls: type[T], values: dict[str, Any], where: str = "", families: Families = NONE) -> T:
    """The inverse of `to_dict`. Raises ValueError for an unknown key, with the nearest known one, and for a value of another
    type. `where` is the prefix under which a user knows the settings."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = {}
    for key, value in values.items():
        if key not in fields:
            raise ValueError(f"unknown setting {where}{key}: {hint(str(key), fields, where + '{}')}")
        known[key] = _typed(fields[key], value, f"{where}{key}", families)
    return cls(**known)


def _typed(kind: Any, value: Any, where: str, families: Families) -> Any:
    """A YAML value as the field's type; ValueError names the field if it does not fit."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    kind = str if str in options and isinstance(value, str) else options[0]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        require(value in args, f"{where}={value!r}: must be one of {', '.join(map(repr, args))}")
        return value
    base = origin or kind
    if base in families or dataclasses.is_dataclass(base):
        require(isinstance(value, dict), f"{where}={value!r}: must be a mapping of settings")
        cls, rest = families[base](value) if base in families else (base, value)
        return from_dict(cls, rest, f"{where}.", families)
    if origin is tuple:
        require(isinstance(value, list | tuple), f"{where}={value!r}: must be a list")
        require(args[-1] is ... or len(value) == len(args), f"{where}={value!r}: must be a list of {len(args)}")
        return tuple(_typed(args[0], item, where, families) for item in value)
    return _simple(kind, value, where)


def _simple(kind: Any, value: Any, where: str) -> Any:
    if kind is Path:
        require(isinstance(value, str | Path), f"{where}={value!r}: must be a path")
        return Path(value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except ValueError:
            pass
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    require(fits, f"{where}={value!r}: must be {kind.__name__}")
    return value
