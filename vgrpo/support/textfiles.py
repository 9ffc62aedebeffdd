"""A user's text files: what cannot be read is said with the file and, where it is known, the line."""

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vgrpo.support.checks import LARGEST

MOST_BYTES = 2**16
"""Of a file of settings; a recipe has 3,000."""
DEEPEST = 50
"""Levels of brackets and indents in a file of settings."""


def read_text(path: Path) -> str:
    """UTF-8, perhaps behind the byte order mark that Excel and Notepad write. Raises ValueError for other bytes."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings by name. Raises ValueError if the file is no YAML, or holds what settings do not need.

    Settings are plain: names, text, finite numbers, yes or no, nothing, and lists and mappings of these. Every mapping has
    each name once. Anchors, aliases, merge keys and tags are refused: a few lines of aliases can stand for gigabytes.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path}: {size:,} bytes are no file of settings; it may have {MOST_BYTES:,} at most")
    text = read_text(path)
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:300]
        raise ValueError(f"{path}{where}: not YAML ({reason}); correct it there") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings; write them as lines of `name: value`")
    return values


def parse_yaml(text: str) -> Any:
    """A text of plain settings, as `read_yaml` takes them. Raises yaml.YAMLError for anything else."""
    return yaml.load(text, Loader=_Settings)


class _Settings(yaml.SafeLoader):
    """YAML's own types, less those that no setting has."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Check each value before anything of it is built."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse("anchors (&) and aliases (*) are not taken; write the value out, or put it in quotes", event.start_mark)
        if getattr(event, "tag", None) is not None:
            _refuse(f"the tag {event.tag[:60]!r} is not taken; write a plain value, or put it in quotes", event.start_mark)
        self.depth += 1
        self.check_depth(self.depth, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def fetch_flow_collection_start(self, kind: Any) -> None:
        """Many open brackets take long even to be split into words."""
        self.check_depth(self.flow_level, self.get_mark())
        super().fetch_flow_collection_start(kind)

    def check_depth(self, depth: int, mark: Any) -> None:
        if depth > DEEPEST:
            _refuse(f"more than {DEEPEST} levels of brackets or indents; write it flatter", mark)

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value or key.tag.endswith(":merge"):
                _refuse("the name of a setting must be plain text", key.start_mark)
            if key.value in values:
                _refuse(f"{key.value[:60]} is set twice; set it once", key.start_mark)
            values[key.value] = self.construct_object(value, deep=True)
        return values

    def number(self, node: yaml.ScalarNode) -> int | float:
        """In plain decimal digits. YAML 1.1 also reads 1:30 as 90 and 010 as 8, which no one means."""
        text = node.value
        if not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,25}|[0-9]*\.[0-9]*([eE][+-][0-9]+)?|\.(inf|nan))", text, re.IGNORECASE):
            _refuse(f"{text[:60]!r} is no plain decimal number in range; put it in quotes if it is text", node.start_mark)
        value = int(text) if node.tag.endswith(":int") else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value) or abs(value) > LARGEST:
            _refuse(f"{text[:60]} must be a finite number of at most 2^63 - 1 in size", node.start_mark)
        return value

    def neither(self, node: yaml.ScalarNode) -> None:
        _refuse(f"{node.value[:60]!r} is neither plain text nor a number; put it in quotes if it is text", node.start_mark)


CONSTRUCT: dict[str, Any] = {
    "map": _Settings.mapping,
    "int": _Settings.number,
    "float": _Settings.number,
    "timestamp": _Settings.neither,
    "value": _Settings.neither,
    "merge": _Settings.neither,
}
for _kind, _method in CONSTRUCT.items():
    _Settings.add_constructor(f"tag:yaml.org,2002:{_kind}", _method)


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
