"""JSON of a stranger."""

import json
from typing import Any, NoReturn


def strict_json(content: bytes) -> Any:
    """Raises ValueError for what is not JSON, also for what Python takes as such: NaN, a name twice, endless brackets."""
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("brackets within brackets, too deep to read") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name is there twice")
    return values
