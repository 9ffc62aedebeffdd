"""Runs that take turns. After every iteration of one method comes an iteration of the next, so that a slow minute of the
machine hits all alike; the evaluations in between cost a method nothing."""

import json
import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vgrpo.analysis.race.config import BenchConfig, Budget
from vgrpo.analysis.race.exam import Exam
from vgrpo.training import checkpoint
from vgrpo.training.config import Config
from vgrpo.training.loop import iterate
from vgrpo.training.run import Run
from vgrpo.training.start import start_run

FOREVER = 1_000_000  # iterations; a budget of seconds ends a run


@dataclass(kw_only=True)
class Lane:
    """One method with one seed, and its clock."""

    name: str
    seed: int
    run: Run
    seconds: float = 0.0
    nfe: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    last_eval: float = -math.inf  # the first evaluation comes before any step


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """The lanes of a seed have trained for so long, all together."""

    seed: int
    seconds: float
    total: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A lane was evaluated; its line is in results.jsonl."""

    method: str
    seed: int
    seconds: float
    scores: dict[str, float]


Watcher = Callable[[Advanced | Evaluated], None]


def race(config: BenchConfig, entries: dict[str, Config], watch: Watcher) -> Path:
    """Run every entry with every seed; returns the path of results.jsonl. Goes on where an earlier call stopped.

    Raises ValueError if the entries' prompts are not one world's.
    """
    prompts = {entry.prompts for entry in entries.values()}
    if len(prompts) != 1:
        raise ValueError(f"a race needs the same prompts for all; here they are {', '.join(sorted(prompts))}")
    budget = config.budget
    exam = Exam(prompts.pop(), budget.num_prompts, config.num_images, config.held_out)
    path = config.output_dir / "results.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in budget.seeds:
        with ExitStack() as lanes_open:
            lanes = [_open_lane(config.output_dir, name, entry, seed, done) for name, entry in entries.items()]
            for lane in lanes:
                lanes_open.callback(lane.run.close)
            _race_seed(lanes, budget, exam, path, watch)
    return path


def _race_seed(lanes: list[Lane], budget: Budget, exam: Exam, path: Path, watch: Watcher) -> None:
    def advanced() -> None:
        trained = sum(min(lane.seconds, budget.seconds) for lane in lanes)
        watch(Advanced(seed=lanes[0].seed, seconds=trained, total=len(lanes) * budget.seconds))

    advanced()
    while any(lane.seconds < budget.seconds for lane in lanes):
        for lane in (lane for lane in lanes if lane.seconds < budget.seconds):
            if lane.seconds >= lane.last_eval + budget.eval_seconds:
                watch(_evaluate(lane, exam, path))
            _step(lane)
            advanced()
    for lane in lanes:
        if lane.seconds > lane.last_eval:
            watch(_evaluate(lane, exam, path))


def _open_lane(parent: Path, name: str, entry: Config, seed: int, done: list[dict[str, Any]]) -> Lane:
    folder = parent / "lanes" / f"{name.replace(' ', '-')}-{seed}"
    past = [line for line in done if (line["method"], line["seed"]) == (name, seed)]
    if not past:  # stopped before the first line: nothing to go on with
        shutil.rmtree(folder, ignore_errors=True)
    entry = replace(entry, output_dir=folder, seed=seed, num_iterations=FOREVER)
    lane = Lane(name=name, seed=seed, run=start_run(entry, resume=bool(past)))
    if past:
        last = past[-1]
        # A kill between a checkpoint and its line leaves a newer checkpoint that no line tells of.
        lane.run.load_state_dict(checkpoint.load(folder / "checkpoints", last["iteration"]).state)
        lane.seconds, lane.nfe, lane.phases = last["seconds"], last["nfe"], last["phases"]
        lane.last_eval = lane.seconds
    return lane


def _step(lane: Lane) -> None:
    line = iterate(lane.run)
    lane.run.iteration += 1
    lane.seconds += line["seconds/total"]
    images = lane.run.config.rollout.num_prompts * lane.run.config.rollout.group_size
    lane.nfe += int(images * (line["nfe/rollout"] + line["nfe/old"] + line["nfe/train"]))
    for phase in ("rollout", "reward", "update"):
        lane.phases[phase] = lane.phases.get(phase, 0.0) + line[f"seconds/{phase}"]


def _evaluate(lane: Lane, exam: Exam, path: Path) -> Evaluated:
    scores = exam(lane.run)
    record = {
        "method": lane.name,
        "seed": lane.seed,
        "iteration": lane.run.iteration,
        "seconds": round(lane.seconds, 3),
        "nfe": lane.nfe,
        "steps": lane.run.optimizer.num_steps,
        "phases": {name: round(value, 3) for name, value in lane.phases.items()},
        **{name: round(value, 4) for name, value in scores.items()},
    }
    lane.run.save_checkpoint()
    lane.run.writer.finish()
    with path.open("a") as file:  # after the checkpoint: what is written can be gone on with
        file.write(json.dumps(record) + "\n")
    lane.last_eval = lane.seconds
    return Evaluated(method=lane.name, seed=lane.seed, seconds=lane.seconds, scores=scores)
