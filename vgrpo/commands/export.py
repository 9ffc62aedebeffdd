"""`vgrpo export RUN`: what a run trained, in the form that another tool reads, with a model card."""

from pathlib import Path

from vgrpo.commands.options import asks_for_help, parse, take_name
from vgrpo.commands.words import UsageError
from vgrpo.training.export.export import ExportConfig, export

PROG = "vgrpo export RUN"
DESCRIPTION = "Write a run's adapter in the form that another tool reads, with a model card beside it."


def run(words: list[str]) -> None:
    words, name = take_name(words, "")
    if not name.strip() and not asks_for_help(words):
        raise UsageError(f"name the run's folder first: {PROG}")
    print(export(Path(name), parse(ExportConfig, words, prog=PROG, description=DESCRIPTION)))
