"""The search for every method's settings: as many trials for each, as long a time for each trial, on training prompts.

Successive halving (Jamieson and Talwalkar, arXiv:1502.07943): all trials train for a first round, the best third goes on to a
second, and of these the best third to a last one. Best is the reward on training prompts at the round's end; a trial that broke
off has none. Every line stays in results.jsonl, and the winners in tuned.json. It goes on where it was stopped.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgrpo.analysis.race.config import BenchConfig
from vgrpo.analysis.race.exam import exam_of
from vgrpo.analysis.race.lane import Evaluated, drop_cut_line, open_lane, read_lines
from vgrpo.analysis.race.race import Watcher, only_prompts, results_path
from vgrpo.analysis.race.space import Change, Space, changed, trial_changes
from vgrpo.analysis.race.workers import Watch, share_out
from vgrpo.support.files import write_whole
from vgrpo.training.optimizer import BadStepsError
from vgrpo.training.settings.config import Config

REDUCTION = 3  # one of so many trials goes on


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of settings of a method, and how it is called in results.jsonl."""

    method: str
    number: int
    change: Change
    entry: Config

    @property
    def name(self) -> str:
        return f"{self.method} {self.number}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trial is to have trained for so long."""

    bench: BenchConfig
    trial: Trial
    seconds: float


def tune(config: BenchConfig, entries: dict[str, Config], spaces: dict[str, Space], watcher: Watcher) -> Path:
    """Search for all entries; returns the path of tuned.json. Raises ValueError for a space with too few settings."""
    only_prompts(entries)
    path, search = results_path(config), config.search
    drop_cut_line(path)
    alive = {name: _trials(config, name, entry, spaces[name]) for name, entry in entries.items()}
    for number, seconds in enumerate(search.seconds):
        if number:
            lines = read_lines(path)
            alive = {name: _best(trials, lines, search.seconds[number - 1]) for name, trials in alive.items()}
        tasks = [Task(bench=config, trial=trial, seconds=seconds) for trials in alive.values() for trial in trials]
        share_out(_train, tasks, config.workers, watcher)
    return _write(config, {name: _ranked(trials, read_lines(path), search.seconds[-1])[0] for name, trials in alive.items()})


def _trials(config: BenchConfig, name: str, entry: Config, space: Space) -> list[Trial]:
    changes = trial_changes(name, entry, space, config.search.num_trials, config.search.seed)
    return [Trial(method=name, number=n, change=change, entry=changed(entry, change)) for n, change in enumerate(changes)]


def _train(task: Task, watch: Watch) -> None:
    """Train a trial until it has had its seconds, and take the exam; nothing if an earlier call has."""
    config, trial, path = task.bench, task.trial, results_path(task.bench)
    done = read_lines(path)
    if reward_of(trial.name, done, task.seconds) is not None:
        return
    exam = exam_of(trial.entry.prompts, config.budget.num_prompts, config.num_images, False)
    lane = open_lane(config.output_dir, trial.name, trial.entry, config.search.seed, done)
    try:
        if not lane.run.iteration:
            watch(lane.evaluate(exam, path))
        while lane.seconds < task.seconds:
            lane.step()
        watch(lane.evaluate(exam, path))
    except BadStepsError:  # the settings do not work; what the trial had come to does not count, in this round or a later one
        record = {"method": trial.name, "seed": config.search.seed, "seconds": config.search.seconds[-1], "failed": True}
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        watch(Evaluated(method=trial.name, seed=config.search.seed, seconds=lane.seconds, scores={}))
    finally:
        lane.run.close()


def reward_of(name: str, lines: list[dict[str, Any]], seconds: float) -> float | None:
    """What a trial had come to when it had trained for so long: the first score from then on. None if it is not that far."""
    for line in lines:
        if line["method"] == name and line["seconds"] >= seconds:
            return -math.inf if line.get("failed") else float(line["reward"])
    return None


def _ranked(trials: list[Trial], lines: list[dict[str, Any]], seconds: float) -> list[tuple[float, Trial]]:
    """Rewards and trials, the best first; of equals the one with the lower number."""
    rewards = [reward_of(trial.name, lines, seconds) for trial in trials]
    known = [(-math.inf if reward is None else reward, trial) for reward, trial in zip(rewards, trials, strict=True)]
    return sorted(known, key=lambda pair: (-pair[0], pair[1].number))


def _best(trials: list[Trial], lines: list[dict[str, Any]], seconds: float) -> list[Trial]:
    count = math.ceil(len(trials) / REDUCTION)
    return [trial for _, trial in _ranked(trials, lines, seconds)[:count]]


def _write(config: BenchConfig, winners: dict[str, tuple[float, Trial]]) -> Path:
    """tuned.json: how was searched, and what won."""
    search, path = config.search, config.output_dir / "tuned.json"
    content = {
        "suite": config.suite,
        "search": {"num_trials": search.num_trials, "seconds": search.seconds, "seed": search.seed},
        "methods": {
            name: {"trial": trial.number, "reward": round(reward, 4), "settings": trial.change}
            for name, (reward, trial) in winners.items()
        },
    }
    write_whole(path, json.dumps(content, indent=1) + "\n")
    return path


def read_tuned(path: Path, suite: str, entries: dict[str, Config]) -> dict[str, Config]:
    """The entries with the settings that a search found. Raises ValueError for a file that is none, or of another suite, or
    without one of the entries; FileNotFoundError without it."""
    if not path.is_file():
        raise FileNotFoundError(f"--tuned {path}: there is no such file; vgrpo bench --tune writes one")
    try:
        content = json.loads(path.read_text())
        found, methods = content["suite"], {name: dict(won["settings"]) for name, won in content["methods"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"--tuned {path}: is not what vgrpo bench --tune writes") from None
    if found != suite:
        raise ValueError(f"--tuned {path}: is of --suite {found}, not {suite}")
    missing = [name for name in entries if name not in methods]
    if missing:
        raise ValueError(f"--tuned {path}: has no settings of {', '.join(missing)}; name the others with --only")
    return {name: changed(entry, methods[name]) for name, entry in entries.items()}
