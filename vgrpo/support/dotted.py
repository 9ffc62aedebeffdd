"""A user's own object by name: `my_file:my_function`, looked up in the current folder too."""

import importlib
import sys
from pathlib import Path
from typing import Any


def load_dotted(name: str, what: str) -> Any:
    """What `module:attribute` names. Raises ValueError, saying what is missing; `what` is e.g. "reward"."""
    module_name, attribute = name.split(":", 1)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{what} {name!r}: {error}; is {module_name}.py in this folder or installed?") from error
    if not hasattr(module, attribute):
        raise ValueError(f"{what} {name!r}: {module_name} has no {attribute}")
    return getattr(module, attribute)
