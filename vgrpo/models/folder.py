"""A pipeline's folder: whether all is there, and whether any of it could run code.

Weights are read from safetensors alone, which hold numbers; a .bin or .ckpt file is a pickle, and to open one is to run it.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vgrpo.models.classes import networks_of, parts_of
from vgrpo.models.index import read_json

STEMS = "model|diffusion_pytorch_model"
WEIGHTS = re.compile(rf"({STEMS})(?:\.(\w+))?(-\d+-of-\d+)?\.safetensors")
"""A file of weights: its stem, a variant such as fp16, and which part of several it is."""
WEIGHTS_INDEX = re.compile(rf"({STEMS})\.safetensors\.index(?:\.(\w+))?\.json")
"""The list of such parts."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
HOW_TO_CONVERT = (
    "where you trust the model, convert it in Python: DiffusionPipeline.from_pretrained(MODEL, use_safetensors=False)"
    ".save_pretrained(FOLDER)"
)


def has_configs(folder: Path) -> bool:
    return all((folder / part / "config.json").is_file() for part in networks_of(folder))


def has_texts(folder: Path) -> bool:
    """Whether all configs and tokenizers are there."""
    return has_configs(folder) and all(any((folder / part).glob("*")) for part in parts_of(folder))


def is_whole(folder: Path) -> bool:
    """Whether nothing is missing, as it would be after a download that was broken off."""
    return not lacking(folder)


def lacking(folder: Path) -> list[str]:
    """What a pipeline's folder should hold and does not, in words. Raises ValueError for what could run code, and for a config
    that is none."""
    check_code(folder)
    found, networks = [], networks_of(folder)
    for name in parts_of(folder):
        part = folder / name
        if not any(part.glob("*")):
            found.append(f"the folder {name}/")
        elif name in networks and not (part / "config.json").is_file():
            found.append(f"{name}/config.json")
        elif name in networks and not _has_weights(part):
            found.append(f"the weights of {name}/")
    return found


def check_code(folder: Path) -> None:
    """Raise ValueError for a part that holds or names code, and for a config that is no JSON. Configs must be JSON objects;
    `auto_map` in one names a file of Python, and an attention may name a kernel to download."""
    for name in parts_of(folder):
        part = folder / name
        for path in sorted(part.glob("*config.json")):
            named = next((text for text in _code_named(read_json(path)) if text), None)
            if named is not None:
                raise ValueError(f"{path}: {named} names code of the model's own, which is never run; take a model without any")
        own = sorted(path.name for path in part.glob("*.py"))
        if own:
            raise ValueError(f"{part} holds code, {own[0]}, which is never run; delete it if the model loads without it")
        if (part / "adapter_config.json").is_file():
            raise ValueError(f"{part}/adapter_config.json would load another model's weights; delete it, or merge the adapter")


def variant_of(names: Iterable[str]) -> str | None:
    """Which of a part's weights are taken, by its files' names: those without a variant, else those in half precision."""
    found = {match[2] for name in names if (match := WEIGHTS.fullmatch(name) or WEIGHTS_INDEX.fullmatch(name))}
    return None if None in found or not found else min(found, key=lambda name: (name not in ("fp16", "bf16"), name))


def check_pickles(part: str, names: Iterable[str]) -> None:
    """Raise ValueError if, by the names of its files, a part has weights in pickles and none in safetensors."""
    names = list(names)
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    if pickles and not any(WEIGHTS.fullmatch(name) or WEIGHTS_INDEX.fullmatch(name) for name in names):
        raise ValueError(
            f"{part} holds its weights as {', '.join(pickles[:3])} and not as safetensors; such a file can run code when it is "
            f"opened, so it is not. {HOW_TO_CONVERT}"
        )


def _has_weights(part: Path) -> bool:
    names = [path.name for path in part.iterdir()]
    check_pickles(str(part), names)
    variant = variant_of(names)
    for name in names:
        match = WEIGHTS_INDEX.fullmatch(name)
        if match and match[2] == variant:
            shards = _shards(part / name)
            return bool(shards) and all((part / shard).is_file() for shard in shards)
    single = [match for name in names if (match := WEIGHTS.fullmatch(name))]
    return any(match[2] == variant and match[3] is None for match in single)


def _shards(index: Path) -> set[str]:
    weight_map = read_json(index).get("weight_map")
    shards = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else {""}
    for shard in shards:
        if not WEIGHTS.fullmatch(shard):  # nor is a path that leads out of the folder
            raise ValueError(f"{index}: names {shard[:80]!r}, which is no file of safetensors beside it; save the model again")
    return shards


def _code_named(value: Any) -> Iterator[str]:
    """Keys of a config, at any depth, under which a library looks for code to load."""
    if isinstance(value, list):
        for item in value:
            yield from _code_named(item)
    for key, item in value.items() if isinstance(value, dict) else ():
        if key in ("auto_map", "custom_pipeline", "custom_generate") and item:
            yield key
        elif key.endswith("_implementation") or key.endswith("_implementation_internal"):
            yield f"{key}={item}" if "/" in str(item) else ""
        yield from _code_named(item)
