"""One method with one seed: its run, and its clock.

The clock is the process's own CPU time with one thread, so other work on the machine moves it little. The time on the wall
stands beside it.
"""

import json
import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vgrpo.analysis.race.exam import Exam
from vgrpo.training.checkpoints import checkpoint
from vgrpo.training.loop import iterate
from vgrpo.training.run import Run
from vgrpo.training.settings.config import Config
from vgrpo.training.start import start_run

FOREVER = 1_000_000  # iterations; a budget of seconds ends a run


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A lane was evaluated; its line is in results.jsonl."""

    method: str
    seed: int
    seconds: float
    scores: dict[str, float]


@dataclass(kw_only=True)
class Lane:
    """One method with one seed, and its clock."""

    name: str
    seed: int
    run: Run
    seconds: float = 0.0
    """Of one core, training alone."""
    wall_seconds: float = 0.0
    nfe: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    last_eval: float = -math.inf  # the first evaluation comes before any step

    def step(self) -> None:
        """One iteration."""
        began = time.process_time()
        line = iterate(self.run)
        self.seconds += time.process_time() - began
        self.run.iteration += 1
        self.wall_seconds += line["seconds/total"]
        images = self.run.config.rollout.num_prompts * self.run.config.rollout.group_size
        self.nfe += int(images * (line["nfe/rollout"] + line["nfe/old"] + line["nfe/train"]))
        for phase in ("rollout", "reward", "update"):
            self.phases[phase] = self.phases.get(phase, 0.0) + line[f"seconds/{phase}"]

    def evaluate(self, exam: Exam, path: Path) -> Evaluated:
        """Take the exam and append a line to the results at `path`."""
        scores = exam(self.run)
        record = {
            "method": self.name,
            "seed": self.seed,
            "iteration": self.run.iteration,
            "seconds": round(self.seconds, 3),
            "wall_seconds": round(self.wall_seconds, 3),
            "nfe": self.nfe,
            "steps": self.run.optimizer.num_steps,
            "phases": {name: round(value, 3) for name, value in self.phases.items()},
            **{name: round(value, 4) for name, value in scores.items()},
        }
        self.run.save_checkpoint()
        self.run.writer.finish()
        with path.open("a") as file:  # after the checkpoint: what is written can be gone on with
            file.write(json.dumps(record) + "\n")
        self.last_eval = self.seconds
        return Evaluated(method=self.name, seed=self.seed, seconds=self.seconds, scores=scores)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every evaluation of results.jsonl so far, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def drop_cut_line(path: Path) -> None:
    """Take away a last line that a kill cut off, so that the next one begins where a line does."""
    if path.exists():
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(whole.rfind(b"\n") + 1)


def open_lane(parent: Path, name: str, entry: Config, seed: int, done: Iterable[dict[str, Any]]) -> Lane:
    """A lane in a folder of its own, or one that goes on where its last line was written."""
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
        lane.seconds, lane.wall_seconds = last["seconds"], last["wall_seconds"]
        lane.nfe, lane.phases = last["nfe"], last["phases"]
        lane.last_eval = lane.seconds
    return lane
