"""`vgrpo bench`: search, race, tables, plots."""

from dataclasses import replace
from typing import TypeVar

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vgrpo.analysis.race.config import BenchConfig
from vgrpo.analysis.race.lane import Evaluated
from vgrpo.analysis.race.race import Advanced, race
from vgrpo.analysis.race.suites import SUITES, spaces
from vgrpo.analysis.race.tune import read_tuned, tune
from vgrpo.commands.options import parse
from vgrpo.commands.screen import Screen
from vgrpo.support.folders import require_folder
from vgrpo.support.spelling import hint
from vgrpo.training.settings.config import Config

T = TypeVar("T")
DESCRIPTION = "Race algorithms on the sprites world, or search for their settings. Goes on where it was stopped."


def run(words: list[str]) -> None:
    bench(parse(BenchConfig, words, prog="vgrpo bench", description=DESCRIPTION))


def bench(config: BenchConfig) -> None:
    """Race a suite and write results.jsonl, summary.md and plots, or search for its methods' settings and write tuned.json.
    Raises ValueError for unknown names, and for a --tuned that has no settings of an entry."""
    entries = choose(config)
    require_folder(config.output_dir, "--output-dir")
    from vgrpo.analysis.race.plots import plot  # first of all, so that a missing matplotlib or scipy is noticed now
    from vgrpo.analysis.race.summary import markdown

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s"))
    with Progress(*columns, TimeElapsedColumn(), console=Screen()) as progress:
        screen = RaceScreen(progress)
        results = tune(config, entries, spaces(config.suite), screen) if config.tune else race(config, entries, screen)
    if config.tune:
        print(results)
        return
    (config.output_dir / "summary.md").write_text(markdown(results, config.lead))
    plot(results, config.output_dir)
    print(f"{config.output_dir}/summary.md, curves.png, end.png")


class RaceScreen:
    """Shows a race: a bar for each seed, a line for each evaluation."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[int, TaskID] = {}

    def __call__(self, event: Advanced | Evaluated) -> None:
        if isinstance(event, Advanced):
            if event.seed not in self.tasks:
                self.tasks[event.seed] = self.progress.add_task(f"seed {event.seed}", total=event.total)
            self.progress.update(self.tasks[event.seed], completed=event.seconds)
            return
        scores = "broke off" if not event.scores else "reward {reward:.3f}  strict {strict:.3f}".format(**event.scores)
        self.progress.console.print(f"seed {event.seed}  {event.seconds:5.0f}s  {event.method:22} {scores}")


def choose(config: BenchConfig) -> dict[str, Config]:
    """The suite's entries, narrowed by `only`, with the settings of `tuned`, trained on `reward`."""
    suite = _known(config.suite, SUITES, "--suite")
    entries = {name: _known(name, suite, "--only") for name in config.only or suite}
    if config.tuned:
        entries = read_tuned(config.tuned, config.suite, entries)
    if config.reward is None:
        return entries
    return {name: replace(entry, reward=(config.reward,)) for name, entry in entries.items()}


def _known(name: str, table: dict[str, T], option: str) -> T:
    if name not in table:
        quoted = "'{}'"  # entries are of several words
        raise ValueError(f"{option} {name}: {hint(name, table, quoted)}")
    return table[name]
