"""Settings from the command line: what `--help` says, and the options on top of the defaults."""

from typing import Any

from vgrpo.commands.words import UsageError, built, options_of, read_words


class HelpShown(Exception):
    """The command was asked what it takes, and has said so."""


def parse(kind: Any, words: list[str], *, prog: str, description: str, default: Any = None) -> Any:
    """The settings of a class. `default` takes the place of the class's own defaults.

    Raises UsageError for words that cannot be read, ValueError for settings that are not allowed; HelpShown after `--help`.
    """
    if asks_for_help(words):
        explain(kind, prog=prog, description=description, default=default)
    return built(kind, read_words(words, options_of(kind, default)), default)


def asks_for_help(words: list[str]) -> bool:
    return "--help" in words or "-h" in words


def explain(kind: Any, *, prog: str, description: str, default: Any = None) -> None:
    """Print every option with its default. Raises HelpShown."""
    import tyro

    extra = {} if default is None else {"default": default}
    try:
        tyro.cli(kind, args=["--help"], prog=prog, description=description, **extra)
    except SystemExit as leaving:
        raise HelpShown from leaving


def take_option(words: list[str], name: str, *, alone: str = "") -> tuple[list[str], str | None]:
    """Take `name VALUE` or `name=VALUE` out of the words. `alone` is meant by the name without a value.

    Raises UsageError if it is there twice, or without its value where it needs one.
    """
    rest, found, index = list[str](), list[str](), 0
    while index < len(words):
        word = words[index]
        if word == name:
            value = words[index + 1 : index + 2]
            valued = bool(value) and not value[0].startswith("--")
            found.append(value[0] if valued else alone)
            index += valued
        elif word.startswith(f"{name}="):
            found.append(word.removeprefix(f"{name}="))
        else:
            rest.append(word)
        index += 1
    if len(found) > 1:
        raise UsageError(f"{name} is given twice; give it once")
    if found and not found[0].strip():
        raise UsageError(f"{name} takes one value, but none is given")
    return rest, found[0] if found else None


def take_values(words: list[str], name: str) -> tuple[list[str], list[str]]:
    """Take `name VALUE VALUE ...` out of the words, up to the next option. Raises UsageError if it is there without a value."""
    if name not in words:
        return words, []
    start = words.index(name)
    end = next((i for i in range(start + 1, len(words)) if words[i].startswith("--")), len(words))
    if end == start + 1:
        raise UsageError(f"{name} takes values, but none is given")
    return words[:start] + words[end:], words[start + 1 : end]


def take_flag(words: list[str], name: str) -> tuple[list[str], bool]:
    """Take a word out of the words."""
    return [word for word in words if word != name], name in words


def take_name(words: list[str], default: str) -> tuple[list[str], str]:
    """Take the first word if it is no option."""
    return (words[1:], words[0]) if words and not words[0].startswith("-") else (words, default)
