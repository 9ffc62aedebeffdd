"""The settings of a run, or of a curriculum: a recipe's or a file's, then the options."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from vgrpo.commands.options import asks_for_help, explain, take_name, take_option
from vgrpo.commands.words import UsageError, Values, built, options_of, read_words
from vgrpo.objectives import objective_class
from vgrpo.recipes import RECIPES
from vgrpo.support.spelling import hint
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import load_yaml, named_code
from vgrpo.training.settings.stages import Curriculum
from vgrpo.training.settings.tasks import TaskConfig

TASK = re.compile(r"--task-([^.=]+)\.")
STAGE = re.compile(r"--stage-([0-9]+)\.")


def parse_job(words: list[str], *, prog: str, description: str, resume: bool = False) -> Config | Curriculum:
    """From `[RECIPE | run.yaml] [--option value ...]`. A resumed run's folder is that of its file."""
    words, name = take_name(words, "sprites")
    if name in RECIPES:
        default = RECIPES[name]
    elif Path(name).is_file():
        _tell_of_code(Path(name), words)
        default = load_yaml(Path(name))
        if resume:
            default = dataclasses.replace(default, output_dir=Path(name).parent)
    else:
        raise ValueError(f"no recipe {name!r}: {hint(name, RECIPES)} A file of settings is given by its path, as run.yaml.")
    if asks_for_help(words):
        _explain(default, words, prog=prog, description=description)
    if isinstance(default, Curriculum):
        return _parse_curriculum(default, words)
    staged = next((word for word in words if word.startswith("--stage-")), None)
    if staged is not None:
        raise UsageError(f"{staged}: only a curriculum has stages, and {name} is none; leave out --stage-N.")
    return _parse_config(default, words)


def _tell_of_code(path: Path, words: list[str]) -> None:
    """Name the modules that a file, and not the command line, lets run: the file may come from somebody else."""
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words}
    for setting, name in named_code(path):
        if setting == "objective" or setting not in given:
            print(f"{path} names the {setting} {name}: that module is imported, which runs its code", file=sys.stderr)


def _parse_config(default: Config, *parts: list[str]) -> Config:
    """What a later part of the words says takes the place of what an earlier one says."""
    values: Values = {}
    parts, of_tasks = zip(*map(take_tasks, parts), strict=True)
    default = dataclasses.replace(default, tasks=_tasks(default.tasks, of_tasks))
    taken = [take_option(words, "--objective") for words in parts]
    names = [name for _, name in taken if name is not None]
    if names:
        default = dataclasses.replace(default, objective=objective_class(names[-1])())
    options = [option for option in options_of(Config, default) if option.path != ("tasks",)]
    for words, _ in taken:
        values |= read_words(words, options)
    if values.get(("finetune",), default.finetune) != default.finetune:  # a LoRA's learning rate would wreck a whole network
        default = dataclasses.replace(default, update=dataclasses.replace(default.update, lr=None))
    settings: Config = built(Config, values, default)
    return settings


def take_tasks(words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take `--task-NAME.OPTION VALUE ...` out of the words: the rest, and for every task its words without its name."""
    rest: list[str] = []
    tasks: dict[str, list[str]] = {}
    place = rest
    for word in words:
        if word.startswith("--"):
            found = TASK.match(word)
            if word.startswith("--task-") and found is None:
                raise UsageError(f"{word}: a task's option is its name and a setting, as in --task-words.prompts ocr.jsonl")
            place = tasks.setdefault(found.group(1), []) if found else rest
            word = f"--{word[found.end() :]}" if found else word
        place.append(word)
    return rest, tasks


def _tasks(default: tuple[TaskConfig, ...], parts: tuple[dict[str, list[str]], ...]) -> tuple[TaskConfig, ...]:
    """A recipe's or file's tasks, with what the words change about them, then those that the words add."""
    tasks = {task.name: task for task in default}
    options = [option for option in options_of(TaskConfig) if option.path != ("name",)]
    for words in parts:
        for name, own in words.items():
            try:
                values = read_words(own, options)
                tasks[name] = built(TaskConfig, values | ({} if name in tasks else {("name",): name}), tasks.get(name))
            except UsageError as error:
                raise UsageError(str(error).replace("--", f"--task-{name}.", 1)) from None
    return tuple(tasks.values())


def _parse_curriculum(default: Curriculum, words: list[str]) -> Curriculum:
    """An option holds for all stages, `--stage-2.OPTION` for the second alone."""
    stages, folder = [], default.output_dir
    for number, stage in enumerate(default.stages, 1):
        shared, own = _words_of_stage(words, number, len(default.stages))
        if any(word.partition("=")[0] in ("--output-dir", "--output_dir") for word in own):
            raise UsageError(f"--stage-{number}.output-dir: a stage's folder is inside the curriculum's; leave it out")
        config = _parse_config(dataclasses.replace(stage.config, output_dir=default.output_dir), shared, own)
        folder = config.output_dir
        stages.append(dataclasses.replace(stage, config=dataclasses.replace(config, output_dir=None)))
    return dataclasses.replace(default, stages=tuple(stages), output_dir=folder)


def _words_of_stage(words: list[str], number: int, count: int) -> tuple[list[str], list[str]]:
    """Those without a stage's number, and the stage's own without its number, each with its values."""
    shared: list[str] = []
    own: list[str] = []
    place: list[str] = shared
    for word in words:
        if word.startswith("--"):
            found = STAGE.match(word)
            if word.startswith("--stage-") and not (found and 1 <= int(found.group(1)[:9]) <= count):
                raise UsageError(f"{word}: there are stages 1 to {count}, as in --stage-1.update.lr 1e-4")
            place = shared if found is None else own if int(found.group(1)) == number else []
            word = f"--{word[found.end() :]}" if found else word
        place.append(word)
    return shared, own


def _explain(default: Config | Curriculum, words: list[str], *, prog: str, description: str) -> None:
    """Print the options of the chosen algorithm. Raises HelpShown."""
    if isinstance(default, Curriculum):
        description += f" It has {len(default.stages)} stages: an option holds for all, --stage-2.OPTION for the second alone."
        default = default.stages[0].config
    _, name = take_option(words, "--objective")
    objective: Any = default.objective if name is None else objective_class(name)()
    kind: Any = dataclasses.make_dataclass(
        "Config", [("objective", type(objective), objective)], bases=(Config,), frozen=True, kw_only=True
    )
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    explain(kind, prog=prog, description=description, default=kind(**values | {"objective": objective}))
