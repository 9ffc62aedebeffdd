"""Settings as YAML, and back."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from vgrpo.objectives import Objective, objective_class, objective_name
from vgrpo.support.checks import require
from vgrpo.support.spelling import hint
from vgrpo.support.textfiles import read_yaml
from vgrpo.training.config import Config
from vgrpo.training.stages import Curriculum, Stage

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values, as YAML writes them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    if isinstance(config, Curriculum):
        return _shared_once(config)
    values = plain(dataclasses.asdict(config))
    if isinstance(config, Config):
        values["objective"] = {"name": objective_name(config.objective)} | values["objective"]
    return values


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """The inverse of `to_dict`. Raises ValueError for an unknown key, with the nearest known one."""
    fields = typing.get_type_hints(cls)
    known = {}
    for key, value in values.items():
        if key not in fields:
            raise ValueError(f"unknown setting {where}{key}: {hint(str(key), fields, where + '{}')}")
        known[key] = _typed(fields[key], value, f"{where}{key}")
    return cls(**known)


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A YAML value as the field's type; ValueError names the field if it does not fit."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    kind = options[0]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        require(value in args, f"{where}={value!r}: must be one of {', '.join(map(repr, args))}")
        return value
    if origin is Objective or (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        require(isinstance(value, dict), f"{where}={value!r}: must be a mapping of settings")
        if origin is Objective:
            value = dict(value)
            kind = objective_class(value.pop("name", "vgrpo"))
        return from_dict(kind, value, f"{where}.")
    if origin is tuple:
        require(isinstance(value, list | tuple), f"{where}={value!r}: must be a list")
        return tuple(_typed(args[0], item, where) for item in value)
    if kind is Path:
        require(isinstance(value, str | Path), f"{where}={value!r}: must be a path")
        return Path(value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except ValueError:
            pass
    require(
        isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), f"{where}={value!r}: must be {kind.__name__}"
    )
    return value


def _shared_once(curriculum: Curriculum) -> dict[str, Any]:
    """The settings that all stages have in common, then under `stages` each one's name and own settings."""
    each = [to_dict(stage.config) for stage in curriculum.stages]
    shared = {key: value for key, value in each[0].items() if all(values[key] == value for values in each)}
    own = [{key: value for key, value in values.items() if key not in shared} for values in each]
    stages = [{"name": stage.name} | values for stage, values in zip(curriculum.stages, own, strict=True)]
    folder = curriculum.output_dir
    return shared | {"output_dir": None if folder is None else str(folder), "stages": stages}


def _curriculum(values: dict[str, Any]) -> Curriculum:
    """The inverse. What a stage says of a setting or a whole section takes the place of the common one."""
    shared = {key: value for key, value in values.items() if key not in ("stages", "output_dir")}
    require(isinstance(values["stages"], list), f"stages={values['stages']!r}: must be a list")
    stages = []
    for number, own in enumerate(values["stages"], 1):
        require(isinstance(own, dict) and "name" in own, f"stage {number}: must be a mapping of settings with a `name`")
        own = dict(own)
        stages.append(Stage(str(own.pop("name")), from_dict(Config, shared | own)))
    folder = values.get("output_dir")
    return Curriculum(stages=tuple(stages), output_dir=None if folder is None else Path(folder))


def load_yaml(path: Path) -> Config | Curriculum:
    """The settings of a run, or of several stages if there is a list `stages`."""
    values = read_yaml(path)
    return _curriculum(values) if "stages" in values else from_dict(Config, values)


def save_yaml(config: Config | Curriculum, path: Path) -> None:
    """Save without the output folder, so that `vgrpo train config.yaml` repeats the run elsewhere."""
    values = to_dict(config)
    del values["output_dir"]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
