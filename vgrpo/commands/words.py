"""The words of a command line as settings.

Tyro explains the options (`--help`). The words themselves are read here, so that every mistake is one line that names the
value, the rule and what to type instead.
"""

import dataclasses
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vgrpo.support.checks import LARGEST
from vgrpo.support.numbers import plain_number
from vgrpo.support.spelling import nearest

Values = dict[tuple[str, ...], Any]
"""By a setting's fields, outermost first: ("rollout", "group_size")."""


class UsageError(ValueError):
    """A word of the command line that cannot be read."""


@dataclass(frozen=True)
class Option:
    """A setting as it is typed."""

    path: tuple[str, ...]
    kind: Any
    """The type of the field."""

    @property
    def name(self) -> str:
        return "--" + ".".join(self.path).replace("_", "-")

    @property
    def negated(self) -> str:
        """What switches a yes-or-no setting off: `--memory.no-vae-tiling`."""
        return "--" + ".".join((*self.path[:-1], f"no_{self.path[-1]}")).replace("_", "-")


def options_of(kind: Any, settings: Any = None, path: tuple[str, ...] = ()) -> list[Option]:
    """The options of a settings class, of its parts too. The parts are those that `settings`, or the defaults, hold."""
    hints, found = typing.get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        value, place = _value(field, settings), (*path, field.name)
        if dataclasses.is_dataclass(value):
            found += options_of(type(value), value, place)
        else:
            found.append(Option(place, hints[field.name]))
    return found


def read_words(words: list[str], options: list[Option]) -> Values:
    """What the words say. Raises UsageError for the first that cannot be read."""
    known = {option.name: option for option in options}
    negated = {option.negated: option for option in options if option.kind is bool}
    values: Values = {}
    for name, texts in _grouped(words):
        option = known.get(name) or negated.get(name)
        if option is None:
            raise UsageError(_unknown(name, [*known, *negated]))
        if option.path in values:
            raise UsageError(f"{option.name} is given twice; give it once")
        values[option.path] = _flag(name, texts, name in known) if option.kind is bool else _read(option, texts)
    return values


def built(kind: Any, values: Values, settings: Any = None) -> Any:
    """A settings object with these values; what they leave out is as in `settings`, or by default.

    Raises UsageError for a value that is needed, ValueError for what the settings do not allow.
    """
    own = {path[0]: value for path, value in values.items() if len(path) == 1}
    for field in dataclasses.fields(kind):
        inner = {path[1:]: value for path, value in values.items() if path[0] == field.name and len(path) > 1}
        part = _value(field, settings)
        if inner:
            own[field.name] = built(type(part), inner, part)
        elif part is dataclasses.MISSING and field.name not in own:
            raise UsageError(f"{Option((field.name,), field.type).name} is needed; `--help` says what it is")
    return kind(**own) if settings is None else dataclasses.replace(settings, **own)


def _value(field: Any, settings: Any) -> Any:
    if settings is not None:
        return getattr(settings, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _grouped(words: list[str]) -> list[tuple[str, list[str]]]:
    """Every option with the words behind it."""
    groups: list[tuple[str, list[str]]] = []
    for word in words:
        if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(f"{word!a} holds what is no text (a null byte, or not UTF-8); type it anew")
        if _is_option(word):
            name, equals, value = word.partition("=")
            groups.append((name.replace("_", "-"), [value] if equals else []))
        elif groups:
            groups[-1][1].append(word)
        else:
            raise UsageError(f"{word!r} is no option; options begin with --, as in --seed 1")
    return groups


def _is_option(word: str) -> bool:
    """A minus before a number is the number's."""
    return word.startswith("--") or (word.startswith("-") and not re.match(r"-[0-9.]", word) and plain_number(word) is None)


def _flag(name: str, texts: list[str], on: bool) -> bool:
    if texts:
        raise UsageError(
            f"{name} takes no value, but {_quoted(texts)} is given; leave it out (--no-... switches an option off)"
        )
    return on


def _read(option: Option, texts: list[str]) -> Any:
    """The words behind an option, as its type. The word None stands for none where the type allows it."""
    kinds = typing.get_args(option.kind) if isinstance(option.kind, types.UnionType) else (option.kind,)
    several = typing.get_origin(kinds[0]) is tuple
    if texts == ["None"] and (type(None) in kinds or several):
        return None if type(None) in kinds else ()
    if not several:
        if len(texts) != 1:
            raise UsageError(f"{option.name} takes one value, but {_quoted(texts) or 'none'} is given")
        kind = str if str in kinds and plain_number(texts[0]) is None else kinds[0]  # 1024 or 832x1216
        return _single(option.name, kind, texts[0])
    inner = typing.get_args(kinds[0])
    if inner[-1] is not ... and len(texts) != len(inner):
        raise UsageError(f"{option.name} takes {len(inner)} values, but {_quoted(texts) or 'none'} is given")
    if not texts:
        raise UsageError(f"{option.name} takes values, but none is given; leave it out, or write {option.name} None for none")
    return tuple(_single(option.name, inner[0], text) for text in texts)


def _single(name: str, kind: Any, text: str) -> Any:
    """Raises UsageError with the value and the rule."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            near = nearest(text, choices)
            meant = f"; did you mean {near}?" if near else ""
            raise UsageError(f"{name} {text}: must be one of {', '.join(choices)}{meant}")
        return text
    if kind in (int, float):
        value = plain_number(text)
        if value is not None and not abs(value) <= LARGEST:  # NaN is not at most anything
            raise UsageError(f"{name} {_shortened(text)}: give a finite number of at most 2^63 - 1 in size")
        if value is None or (kind is int and isinstance(value, float)):
            raise UsageError(f"{name} {_shortened(text)}: give a {'whole ' if kind is int else ''}number")
        return kind(value)
    if not text.strip():
        raise UsageError(f"{name} {text!r} is empty; give a value, or leave the option out")
    return Path(text) if kind is Path else text


def _unknown(name: str, known: list[str]) -> str:
    last = {_last(option): option for option in reversed(known)}
    near = last.get(_last(name)) or nearest(name, known) or last.get(nearest(_last(name), last) or "")
    return f"unknown option {_shortened(name)}; " + (f"did you mean {near}?" if near else "`--help` lists the options")


def _last(name: str) -> str:
    """Without its section."""
    return name.rpartition(".")[2].lstrip("-")


def _quoted(texts: list[str]) -> str:
    return _shortened(" ".join(map(repr, texts)))


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
