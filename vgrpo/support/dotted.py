"""A user's own object by name: `my_file:my_function`, looked up among what is installed and in the current folder."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


def load_dotted(name: str, what: str) -> Any:
    """What `module:attribute` names. Raises ValueError, saying what is missing; `what` is e.g. "reward"."""
    module_name, _, attribute = name.partition(":")
    words = [*module_name.split("."), attribute]
    if not all(word.isidentifier() for word in words) or module_name.endswith(".py"):
        raise ValueError(f"{what} {name!r}: give it as my_file:my_{what}, without .py and without a folder")
    module = _import(module_name, f"{what} {name!r}")
    if not hasattr(module, attribute):
        raise ValueError(f"{what} {name!r}: {module.__file__ or module_name} has no {attribute}")
    return getattr(module, attribute)


def _import(name: str, what: str) -> ModuleType:
    try:
        with _current_folder_last():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{what}: {error}; is {name}.py in this folder or installed?") from error
        raise ValueError(f"{what}: {error}, which {name} imports; install it, or put it beside {name}.py") from error


@contextmanager
def _current_folder_last() -> Iterator[None]:
    """The current folder as the last place where modules are looked for: a file here is found, also by a file beside it that
    imports it, but a torch.py here is never torch. Afterwards the path is as it was, so a file beside it is imported at a
    module's top and not later."""
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    importlib.invalidate_caches()  # the file may be newer than the last look into this folder
    try:
        yield
    finally:
        sys.path.remove(folder)
