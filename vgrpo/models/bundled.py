"""The models that come with the package: each is the folder `base` of a world of the same name."""

import json
from functools import cache
from pathlib import Path

INDEX = "model_index.json"


@cache
def bundled_models() -> dict[str, Path]:
    """Their folders by name."""
    found = Path(__file__).parents[1].glob(f"worlds/*/base/{INDEX}")
    return {path.parents[1].name: path.parent for path in sorted(found)}


def is_bundled(folder: object) -> bool:
    """Whether a folder, as a path or as text, is that of a bundled model."""
    return str(folder) in map(str, bundled_models().values())


@cache
def own_classes() -> frozenset[tuple[str, str]]:
    """The classes of ours, each with its module, that an index may name: those that a bundled model's own index names."""
    indices = (json.loads((folder / INDEX).read_text()) for folder in bundled_models().values())
    parts = (value for index in indices for value in index.values() if isinstance(value, list))
    return frozenset((library, kind) for library, kind in parts if str(library).startswith("vgrpo."))
