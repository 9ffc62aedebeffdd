"""The settings of a run, or of a curriculum's stages, as YAML, and back."""

from pathlib import Path
from typing import Any

import yaml

from vgrpo.objectives import Objective, objective_class, objective_name
from vgrpo.support import settings
from vgrpo.support.checks import require
from vgrpo.support.files import write_whole
from vgrpo.support.textfiles import read_yaml
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum, Stage
from vgrpo.worlds.registry import OWN, bundled_world

NAMES_CODE = ("reward", "monitor", "prompts", "eval_prompts", "adapter", "objective")
"""Settings that may name a module of a user's."""


def to_dict(config: Config | Curriculum) -> dict[str, Any]:
    """Plain values, as YAML writes them; the objective's name is among its settings."""
    if isinstance(config, Curriculum):
        return _shared_once(config)
    values = settings.to_dict(config)
    values["objective"] = {"name": objective_name(config.objective)} | values["objective"]
    return values


def config_from(values: dict[str, Any]) -> Config:
    """The inverse for a run. Raises ValueError for an unknown setting, with the nearest known one, or one of another type."""
    return settings.from_dict(Config, values, families={Objective: _objective})


def _objective(values: dict[str, Any]) -> tuple[type, dict[str, Any]]:
    rest = dict(values)
    return objective_class(rest.pop("name", "vgrpo")), rest


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
        stages.append(Stage(str(own.pop("name")), config_from(shared | own)))
    folder = values.get("output_dir")
    return Curriculum(stages=tuple(stages), output_dir=None if folder is None else Path(folder))


def load_yaml(path: Path) -> Config | Curriculum:
    """The settings of a run, or of several stages if there is a list `stages`."""
    values = read_yaml(path)
    return _curriculum(values) if "stages" in values else config_from(values)


def named_code(path: Path) -> list[tuple[str, str]]:
    """What a file of settings names of somebody's own, as ("reward", "my_file:my_reward"). To run the settings, and of an
    objective to read them, imports that module, and so runs its code."""
    values, found = read_yaml(path), []
    stages = values.get("stages")
    for part in (values, *(stages if isinstance(stages, list) else ())):
        for setting in NAMES_CODE if isinstance(part, dict) else ():
            value = part.get(setting)
            value = value.get("name") if isinstance(value, dict) else value
            names = [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
            found += [(setting, name) for name in names if OWN.fullmatch(name) and not _is_of_ours(setting, name)]
    return list(dict.fromkeys(found))


def _is_of_ours(setting: str, name: str) -> bool:
    """Whether prompts are some kinds of a bundled world's, such as sprites:text."""
    return setting in ("prompts", "eval_prompts") and bundled_world(name) is not None


def save_yaml(config: Config | Curriculum, path: Path) -> None:
    """Save without the output folder, so that `vgrpo train config.yaml` repeats the run elsewhere."""
    values = to_dict(config)
    del values["output_dir"]
    write_whole(path, yaml.safe_dump(values, sort_keys=False))
