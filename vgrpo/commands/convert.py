"""`vgrpo convert FILE`: a checkpoint in one file becomes a pipeline's folder."""

from dataclasses import dataclass
from pathlib import Path

from vgrpo.commands.options import asks_for_help, parse, take_name
from vgrpo.commands.words import UsageError
from vgrpo.models.single_file import read_single_file
from vgrpo.support.checks import require
from vgrpo.support.folders import require_folder
from vgrpo.support.memory_errors import out_of_memory_while

PROG = "vgrpo convert FILE.safetensors"
DESCRIPTION = "Make a folder, which --model takes, of a checkpoint in one file."


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """How a single file is read."""

    output_dir: Path
    """Gets the pipeline; must be new or empty."""
    base: str | None = None
    """A folder or ORG/NAME of a model of the same architecture, with the configs, the tokenizers and the parts that the file
    lacks; None is the one on the hub that diffusers names for the file."""


def run(words: list[str]) -> None:
    words, name = take_name(words, "")
    if not name.strip() and not asks_for_help(words):
        raise UsageError(f"name the file first: {PROG}")
    config = parse(ConvertConfig, words, prog=PROG, description=DESCRIPTION)
    print(f"{convert(Path(name), config)}: give it as --model")


@out_of_memory_while("converting the checkpoint")
def convert(path: Path, config: ConvertConfig) -> Path:
    target = config.output_dir
    require_folder(target, "--output-dir")
    require(not target.is_dir() or not any(target.iterdir()), f"--output-dir {target} is not empty; name a new folder")
    read_single_file(path, config.base).save_pretrained(target)
    return target
