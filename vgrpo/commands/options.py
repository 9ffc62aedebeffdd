"""Settings from the command line: a recipe's or a file's, then the options."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgrpo.support.spelling import hint

if TYPE_CHECKING:  # `vgrpo --help` should not wait for torch
    from vgrpo.training.config import Config
    from vgrpo.training.stages import Curriculum


def parse(kind: Any, args: list[str], *, prog: str, description: str, default: Any = None) -> Any:
    import tyro

    extra = {} if default is None else {"default": default}
    return tyro.cli(kind, args=args, prog=prog, description=description, config=(tyro.conf.FlagConversionOff,), **extra)


def parse_job(args: list[str], *, prog: str, description: str, resume: bool = False) -> "Config | Curriculum":
    """The settings of a run, or of a curriculum, from a recipe or a YAML file, then from the options."""
    import dataclasses

    from vgrpo.recipes import RECIPES
    from vgrpo.training.config_files import load_yaml
    from vgrpo.training.stages import Curriculum

    name = args.pop(0) if args and not args[0].startswith("-") else "sprites"
    if name in RECIPES:
        default = RECIPES[name]
    elif Path(name).is_file():
        default = load_yaml(Path(name))
        if resume:
            default = dataclasses.replace(default, output_dir=Path(name).parent)
    else:
        raise ValueError(f"no recipe {name!r}: {hint(name, RECIPES)} A file of settings is given by its path, as run.yaml.")
    parse_one = _parse_curriculum if isinstance(default, Curriculum) else _parse_config
    return parse_one(default, args, prog=prog, description=description)


def _parse_config(default: Any, args: list[str], *, prog: str, description: str) -> "Config":
    import dataclasses

    from vgrpo.objectives import objective_class
    from vgrpo.training.config import Config

    args, algorithm = take_option(args, "--objective")
    if algorithm is not None:
        default = dataclasses.replace(default, objective=objective_class(algorithm)())
    kind = dataclasses.make_dataclass(  # the options of the chosen algorithm instead of those of all
        "Config", [("objective", type(default.objective), default.objective)], bases=(Config,), frozen=True, kw_only=True
    )
    return _cast(Config, parse(kind, args, prog=prog, description=description, default=_cast(kind, default)))


def _parse_curriculum(default: Any, args: list[str], *, prog: str, description: str) -> "Curriculum":
    """An option holds for all stages, `--stage-2.OPTION` for the second alone."""
    from dataclasses import replace

    description += f" This recipe has {len(default.stages)} stages: an option holds for all, --stage-2.OPTION for the second."
    stages, folder = [], default.output_dir
    for index, stage in enumerate(default.stages):
        chosen = _options_of_stage(args, index + 1, len(default.stages))
        config = _parse_config(replace(stage.config, output_dir=folder), chosen, prog=prog, description=description)
        if index == 0:
            folder = config.output_dir
        elif config.output_dir != folder:
            raise ValueError(f"--stage-{index + 1}.output-dir: a stage's folder is inside the curriculum's; leave it out")
        stages.append(replace(stage, config=replace(config, output_dir=None)))
    return replace(default, stages=tuple(stages), output_dir=folder)


def _options_of_stage(args: list[str], number: int, count: int) -> list[str]:
    """Those without a stage's number, then the stage's own without its number, each with its values."""
    shared: list[str] = []
    own: list[str] = []
    place: list[str] = shared
    for arg in args:
        if arg.startswith("--"):
            found = re.match(r"--stage-(\d+)\.", arg)
            if found and not 1 <= int(found.group(1)) <= count:
                raise ValueError(f"{arg}: there are stages 1 to {count}")
            place = shared if found is None else own if int(found.group(1)) == number else []
            arg = f"--{arg[found.end() :]}" if found else arg
        place.append(arg)
    return shared + own


def _cast(kind: Any, config: Any) -> Any:
    import dataclasses

    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(config)})


def take_option(args: list[str], name: str) -> tuple[list[str], str | None]:
    """Take `name VALUE` or `name=VALUE` out of the arguments."""
    for index, arg in enumerate(args):
        if arg == name and index + 1 < len(args):
            return args[:index] + args[index + 2 :], args[index + 1]
        if arg.startswith(f"{name}="):
            return args[:index] + args[index + 1 :], arg.removeprefix(f"{name}=")
    return args, None
