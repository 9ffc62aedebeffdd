"""What a pipeline's model_index.json says: the pipeline's class, and the class of each of its parts.

A model's folder comes from a stranger. Its index names Python classes, and to import a module is to run it. So names are
checked here as text, before anything is imported: a class of diffusers, of transformers, of one of diffusers' own pipelines,
or one of ours that a bundled model has.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

from vgrpo.models.bundled import INDEX, own_classes

LIBRARIES = ("diffusers", "transformers")


class Part(NamedTuple):
    """A part of a pipeline as its index names it. `module` is where the class is imported from."""

    name: str
    module: str
    kind: str


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object. Raises ValueError if it is none."""
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # the latter for brackets nested a thousand deep
        raise ValueError(f"{path}: not JSON ({error}); delete it and save or download the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object; delete it and save or download the model again")
    return content


def read_index(folder: Path) -> dict[str, Any]:
    """A folder's model_index.json. Raises ValueError if it is none, or if it names no class of a pipeline."""
    path = folder / INDEX
    index = read_json(path)
    kind = index.get("_class_name")
    if not isinstance(kind, str) or not kind.isidentifier():
        raise ValueError(
            f"{path}: _class_name is {json.dumps(kind)[:80]}, not the name of a diffusers pipeline; pipelines with their own "
            "code are not loaded. Save the model again with the pipeline's save_pretrained"
        )
    return index


def read_parts(folder: Path) -> list[Part]:
    """The parts of a folder's pipeline that its index names. Raises ValueError for one that is not of a trusted library."""
    path, index = folder / INDEX, read_index(folder)
    entries = {name: value for name, value in index.items() if isinstance(value, list | dict) and not name.startswith("_")}
    return [part for name, value in entries.items() if (part := _part(path, name, value)) is not None]


def _part(path: Path, name: str, value: Any) -> Part | None:
    """None where the index says that the pipeline is without this part."""
    if not name.isidentifier():
        raise ValueError(f"{path}: {name[:80]!r} cannot be the name of a part; save the model again")
    if value == [None, None]:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(item, str) for item in value):
        raise ValueError(
            f"{path}: the part {name} is {json.dumps(value)[:80]}, not [library, class]; parts with code of their own are not "
            "loaded. Save the model again with the pipeline's save_pretrained"
        )
    library, kind = value
    module = _trusted_module(library, kind)
    if module is None:
        raise ValueError(
            f"{path}: the part {name} names the class {kind[:80]} of the module {library[:80]}, which is not imported, as that "
            "would run its code. Only classes of diffusers and transformers are loaded; if you trust this model, load it in "
            "Python and give it to train(config, pipeline=...)"
        )
    return Part(name, module, kind)


def _trusted_module(library: str, kind: str) -> str | None:
    """Where a class may be imported from; None if it may not."""
    if (library, kind) in own_classes():
        return library
    if not kind.isidentifier() or kind.startswith("_"):
        return None
    if library in LIBRARIES:
        return library
    # A safety checker, for one, is a class of ["stable_diffusion", ...], a folder among diffusers' pipelines.
    if not library.isidentifier() or library.startswith("_"):
        return None
    spec = importlib.util.find_spec(f"diffusers.pipelines.{library}")
    return f"diffusers.pipelines.{library}" if spec and spec.submodule_search_locations else None
