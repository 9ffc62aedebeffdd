"""Runs that take turns. After every iteration of one method comes an iteration of the next, so that a slow minute of the
machine hits all alike; the evaluations in between cost a method nothing."""

import json
import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from vgrpo.analysis.race.config import BenchConfig, Budget
from vgrpo.analysis.race.judge import Judge
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


def race(config: BenchConfig, entries: dict[str, Config]) -> Path:
    """Run every entry with every seed; returns the path of results.jsonl. Goes on where an earlier call stopped."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    path = config.output_dir / "results.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    budget = config.budget
    judge = Judge(budget.num_prompts, config.num_images, config.held_out)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(highlight=False)) as progress:
        for seed in budget.seeds:
            lanes = [_open_lane(config.output_dir, name, entry, seed, done) for name, entry in entries.items()]
            _race_seed(lanes, budget, judge, path, progress)
    return path


def _race_seed(lanes: list[Lane], budget: Budget, judge: Judge, path: Path, progress: Progress) -> None:
    def trained() -> float:
        return sum(min(lane.seconds, budget.seconds) for lane in lanes)

    task = progress.add_task(f"seed {lanes[0].seed}", total=len(lanes) * budget.seconds)
    progress.update(task, completed=trained())
    while any(lane.seconds < budget.seconds for lane in lanes):
        for lane in (lane for lane in lanes if lane.seconds < budget.seconds):
            if lane.seconds >= lane.last_eval + budget.eval_seconds:
                _evaluate(lane, judge, path, progress.console)
            _step(lane)
            progress.update(task, completed=trained())
    for lane in lanes:
        if lane.seconds > lane.last_eval:
            _evaluate(lane, judge, path, progress.console)


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


def _evaluate(lane: Lane, judge: Judge, path: Path, console: Console) -> None:
    scores = judge(lane.run)
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
    checkpoint.save(lane.run.state_dict(), lane.run.folder / "checkpoints", lane.run.iteration)
    with path.open("a") as file:  # after the checkpoint: what is written can be gone on with
        file.write(json.dumps(record) + "\n")
    lane.last_eval = lane.seconds
    console.print(
        f"seed {lane.seed}  {lane.seconds:5.0f}s  {lane.name:22} strict {scores['strict']:.3f}  {scores['reward']:.3f}"
    )
