"""`vgrpo bench`: race, tables, plots."""

from dataclasses import replace
from typing import Any, TypeVar

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vgrpo.analysis.race.config import BenchConfig
from vgrpo.analysis.race.race import Advanced, Evaluated, race
from vgrpo.analysis.race.suites import KNOBS, SUITES
from vgrpo.commands.options import parse
from vgrpo.commands.screen import Screen
from vgrpo.support.folders import require_folder
from vgrpo.support.spelling import hint
from vgrpo.training.config import Config

T = TypeVar("T")
DESCRIPTION = "Race algorithms on the sprites world, taking turns in one process. Goes on where it was stopped."


def run(words: list[str]) -> None:
    bench(parse(BenchConfig, words, prog="vgrpo bench", description=DESCRIPTION))


def bench(config: BenchConfig) -> None:
    """Run a suite and write results.jsonl, summary.md and plots. Raises ValueError for unknown names."""
    entries = choose(config)
    require_folder(config.output_dir, "--output-dir")
    from vgrpo.analysis.race.plots import plot  # first of all, so that a missing matplotlib or scipy is noticed now
    from vgrpo.analysis.race.summary import markdown

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s"))
    with Progress(*columns, TimeElapsedColumn(), console=Screen()) as progress:
        results = race(config, entries, RaceScreen(progress))
    (config.output_dir / "summary.md").write_text(markdown(results))
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
        strict, reward = event.scores["strict"], event.scores["reward"]
        self.progress.console.print(
            f"seed {event.seed}  {event.seconds:5.0f}s  {event.method:22} strict {strict:.3f}  {reward:.3f}"
        )


def choose(config: BenchConfig) -> dict[str, Config]:
    """The suite's entries, narrowed by `only` and spread over `lr` or `knobs`."""
    suite = _known(config.suite, SUITES, "--suite")
    entries = {name: _known(name, suite, "--only") for name in config.only or suite}
    if config.knobs:
        return {
            " ".join([name, *(f"{key.split('.')[-1]} {value}" for key, value in change.items())]): _changed(entry, change)
            for name, entry in entries.items()
            for change in ({}, *_known(name, KNOBS, "--knobs, for --only"))
        }
    if not config.lr:
        return entries
    return {
        f"{name} lr {rate:g}": replace(entry, update=replace(entry.update, lr=rate))
        for name, entry in entries.items()
        for rate in config.lr
    }


def _changed(entry: Config, change: dict[str, Any]) -> Config:
    for name, value in change.items():
        part, _, field = name.rpartition(".")
        part = part or "objective"
        entry = replace(entry, **{part: replace(getattr(entry, part), **{field: value})})
    return entry


def _known(name: str, table: dict[str, T], option: str) -> T:
    if name not in table:
        quoted = "'{}'"  # entries are of several words
        raise ValueError(f"{option} {name}: {hint(name, table, quoted)}")
    return table[name]
