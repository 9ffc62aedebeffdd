"""`vgrpo report`: rebuild a run's report."""

from pathlib import Path

from vgrpo.commands.options import HelpShown, asks_for_help
from vgrpo.commands.words import UsageError
from vgrpo.workbench.report import write_report

USAGE = "vgrpo report RUN_DIR"


def run(words: list[str]) -> None:
    if asks_for_help(words):
        print(f"usage: {USAGE}\n\nRebuild report.html of a run, also of one that is still going.")
        raise HelpShown
    if len(words) != 1 or words[0].startswith("-") or not words[0].strip():
        raise UsageError(f"name one run's folder: {USAGE}")
    print(write_report(Path(words[0])))
