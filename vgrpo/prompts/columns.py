"""Rows of a table as prompts: which column holds the text, and what a table adds to the rest."""

import json
from collections.abc import Iterable
from typing import Any

from vgrpo.core.types import Prompt

COLUMNS = ("prompt", "prompts", "caption", "text")
PACKED = ("include", "exclude")
"""Fields of GenEval's metadata that a table may hold as JSON in a text."""


def prompt_column(names: Iterable[Any]) -> str | None:
    """The column of the texts, in capitals or not: the first of COLUMNS that is there; None if none is."""
    known = {name.strip().lower(): name for name in names if isinstance(name, str)}
    return next((known[column] for column in COLUMNS if column in known), None)


def prompt_of(row: dict[str, Any], column: str, where: str) -> Prompt:
    """A row as a prompt. A table gives every row every key, with None where a row has none: those are left out.

    Raises ValueError for GenEval's metadata that is JSON in a text and cannot be read.
    """
    metadata = {name: value if name == column else _whole(value) for name, value in row.items()}
    for name in PACKED:
        if isinstance(metadata.get(name), str):
            try:
                metadata[name] = _whole(json.loads(metadata[name] or "[]"))
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"{where}: `{name}` is no JSON: {metadata[name][:80]}") from error
    return Prompt(text=row[column], metadata={name: value for name, value in metadata.items() if value is not None})


def _whole(value: Any) -> Any:
    """Without the keys that are None, at any depth."""
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items() if inner is not None}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value
