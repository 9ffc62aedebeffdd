"""The classes that a model's index names, imported: those of its parts, and the pipeline's own."""

import importlib
import inspect
from pathlib import Path
from typing import Any

from vgrpo.models.bundled import INDEX
from vgrpo.models.index import Part, read_index, read_parts
from vgrpo.models.quiet import without_import_chatter

RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}
"""What old indices name and transformers 5 has no more."""


def part_class(folder: Path, part: Part) -> type:
    """The class of a part. Raises ValueError if its library has no such class, or if it is no part of a pipeline: a pipeline
    inside a pipeline, say, would be loaded from an index that nobody checked."""
    try:
        with without_import_chatter():
            module = importlib.import_module(part.module)
            found: Any = getattr(module, part.kind, None) or getattr(module, RENAMED.get(part.kind, part.kind), None)
    except (ImportError, RuntimeError) as error:  # lazy libraries find out only now what they lack
        raise ValueError(f"{folder / INDEX}: the part {part.name} needs {_line(error)}") from error
    needs = found.__dict__.get("_backends") if isinstance(found, type) else None
    if needs:
        raise ValueError(f"{folder / INDEX}: the part {part.name}, a {part.kind}, needs {' and '.join(needs)}; install it")
    if not isinstance(found, type) or not issubclass(found, _kinds()) or found in _kinds():
        raise ValueError(
            f"{folder / INDEX}: the part {part.name} names {part.kind} of {part.module}, which this version does not have as a "
            "model, scheduler, tokenizer or processor; a newer one may, or the index is wrong"
        )
    return found


def _kinds() -> tuple[type, ...]:
    """What a pipeline is made of."""
    from diffusers import ModelMixin, SchedulerMixin
    from transformers import (
        FeatureExtractionMixin,
        ImageProcessingMixin,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )

    processors = (FeatureExtractionMixin, ImageProcessingMixin, ProcessorMixin)
    return (ModelMixin, SchedulerMixin, PreTrainedModel, PreTrainedTokenizerBase, *processors)


def pipeline_class(kind: str) -> Any:
    """A public pipeline class of diffusers by its name; None if there is none."""
    with without_import_chatter():
        import diffusers

        found = getattr(diffusers, kind, None)
    is_one = isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)
    return found if is_one and found is not diffusers.DiffusionPipeline else None


def parts_of(folder: Path) -> dict[str, type]:
    """The classes of the parts that are loaded: all but a safety checker, which nobody trains behind.

    Raises ValueError if one may not or cannot be loaded, or if the pipeline needs another part.
    """
    _check_pipeline(folder)
    classes = {part.name: part_class(folder, part) for part in read_parts(folder)}
    return {name: found for name, found in classes.items() if name != "safety_checker"}


def networks_of(folder: Path) -> dict[str, Any]:
    """Those of them that have weights."""
    from torch import nn

    return {name: found for name, found in parts_of(folder).items() if issubclass(found, nn.Module)}


def absent_parts(folder: Path) -> list[str]:
    """Parts that a pipeline must be told that it is without."""
    index = read_index(folder)
    absent = ["safety_checker"] if "safety_checker" in index else []
    if index["_class_name"] == "StableDiffusion3Pipeline":  # runs without its T5
        absent += [part for part in ("text_encoder_3", "tokenizer_3") if index.get(part) in (None, [None, None])]
    return absent


def _check_pipeline(folder: Path) -> None:
    """What the pipeline's class calls a part must be one in the index: diffusers would unpack a word of two letters too."""
    index, absent = read_index(folder), absent_parts(folder)
    cls = pipeline_class(index["_class_name"])
    if cls is None:
        raise ValueError(f"{folder / INDEX}: diffusers has no pipeline {index['_class_name'][:80]}; a newer one may")
    if cls._load_connected_pipes:
        raise ValueError(f"{folder / INDEX}: a {cls.__name__} loads a second model, which is not checked; give that one's own")
    parameters = inspect.signature(cls.__init__).parameters.values()
    needed = {each.name for each in parameters if each.default is each.empty and each.name != "self"}
    optional = {*cls._optional_components, *absent}
    for name in sorted(needed | optional):
        value = index.get(name)
        if value in (None, [None, None]):
            if name not in optional:
                raise ValueError(f"{folder / INDEX}: a {cls.__name__} needs a {name}, and none is named; save the model again")
        elif not isinstance(value, list):
            said = f"the part {name} is {str(value)[:80]!r}, not [library, class]"
            raise ValueError(f"{folder / INDEX}: {said}; save the model again")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
