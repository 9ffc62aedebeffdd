"""Runs that take turns. After every iteration of one method comes an iteration of the next, so that a slow minute of the
machine hits all alike; the evaluations in between cost a method nothing."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vgrpo.analysis.race.config import BenchConfig, Budget
from vgrpo.analysis.race.exam import Exam, exam_of
from vgrpo.analysis.race.lane import Evaluated, Lane, drop_cut_line, open_lane, read_lines
from vgrpo.analysis.race.workers import Watch, share_out
from vgrpo.training.settings.config import Config


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """The lanes of a seed have trained for so long, all together."""

    seed: int
    seconds: float
    total: float


Watcher = Callable[[Advanced | Evaluated], None]


def race(config: BenchConfig, entries: dict[str, Config], watch: Watcher) -> Path:
    """Run every entry with every seed; returns the path of results.jsonl. Goes on where an earlier call stopped.

    Raises ValueError if the entries' prompts are not one world's.
    """
    only_prompts(entries)
    path = results_path(config)
    drop_cut_line(path)
    share_out(_race_seed, [(config, entries, seed) for seed in config.budget.seeds], config.workers, watch)
    return path


def results_path(config: BenchConfig) -> Path:
    return config.output_dir / "results.jsonl"


def only_prompts(entries: dict[str, Config]) -> str:
    """The prompts that all entries have in common. Raises ValueError for several."""
    prompts = {entry.prompts for entry in entries.values()}
    if len(prompts) != 1:
        raise ValueError(f"a race needs the same prompts for all; here they are {', '.join(sorted(prompts))}")
    return prompts.pop()


def _race_seed(task: tuple[BenchConfig, dict[str, Config], int], watch: Watch) -> None:
    config, entries, seed = task
    budget, path = config.budget, results_path(config)
    exam = exam_of(only_prompts(entries), budget.num_prompts, config.num_images, True)
    done = read_lines(path)
    with ExitStack() as lanes_open:
        lanes = [open_lane(config.output_dir, name, entry, seed, done) for name, entry in entries.items()]
        for lane in lanes:
            lanes_open.callback(lane.run.close)
        _take_turns(lanes, budget, exam, path, watch)


def _take_turns(lanes: list[Lane], budget: Budget, exam: Exam, path: Path, watch: Watch) -> None:
    def advanced() -> None:
        trained = sum(min(lane.seconds, budget.seconds) for lane in lanes)
        watch(Advanced(seed=lanes[0].seed, seconds=trained, total=len(lanes) * budget.seconds))

    advanced()
    while any(lane.seconds < budget.seconds for lane in lanes):
        for lane in (lane for lane in lanes if lane.seconds < budget.seconds):
            if lane.seconds >= lane.last_eval + budget.eval_seconds:
                watch(lane.evaluate(exam, path))
            lane.step()
            advanced()
    for lane in lanes:
        if lane.seconds > lane.last_eval:
            watch(lane.evaluate(exam, path))
