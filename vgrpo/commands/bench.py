"""`vgrpo bench`: race, tables, plots."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from vgrpo.analysis.race.config import BenchConfig
from vgrpo.analysis.race.race import race
from vgrpo.analysis.race.suites import KNOBS, SUITES
from vgrpo.support.spelling import hint
from vgrpo.training.config import Config

T = TypeVar("T")


def bench(config: BenchConfig) -> Path:
    """Run a suite and write results.jsonl, summary.md and plots; returns the folder. Raises ValueError for unknown names."""
    entries = choose(config)
    from vgrpo.analysis.race.plots import plot
    from vgrpo.analysis.race.summary import markdown

    results = race(config, entries)
    (config.output_dir / "summary.md").write_text(markdown(results))
    plot(results, config.output_dir)
    print(f"{config.output_dir}/summary.md, curves.png, end.png")
    return config.output_dir


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
