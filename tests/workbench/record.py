"""Recordings of runs with an illness each, and of a well one, for the tests of the rules: python tests/workbench/record.py

Each is a run of the tiny pipeline that is driven into its illness. Writes recorded.json beside this file, in about five minutes
on one core; give names of runs to record only these anew.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import VGRPO, train
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.pages.run_files import RunFiles
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.workbench.series import Series

FILE = Path(__file__).with_name("recorded.json")
KEPT = (  # no times: they say how busy the machine was
    "iteration reward/mean reward/std reward/zero_std_groups reward/failed clip_share ratio/first ratio/min ratio/max "
    "grad_norm bad_steps surrogate/cv_within monitor/record:natural"
).split()


def natural(images, prompts):
    """What a person would say: the redder, the worse."""
    return -red(images, prompts)


def coarse(images, prompts):
    return (red(images, prompts) > 0.9).float()


def picky(images, prompts):
    if any(prompt.text == PROMPTS[0] for prompt in prompts):
        raise KeyError("a red heart")
    return red(images, prompts)


def learned_by_heart(images, prompts):
    known = torch.tensor([1.0 if prompt.text in PROMPTS else -1.0 for prompt in prompts])
    return red(images, prompts) * known


@dataclass(frozen=True, kw_only=True)
class NowAndThen(VGRPO):
    """Every fourth loss is not a number."""

    def loss(self, v, base, batch):
        LOSSES.append(1)
        loss, metrics = super().loss(v, base, batch)
        return loss * (float("nan") if len(LOSSES) % 4 == 0 else 1.0), metrics


@dataclass(frozen=True, kw_only=True)
class Jumping(VGRPO):
    """Every eighth loss is a hundred times as large."""

    def loss(self, v, base, batch):
        LOSSES.append(1)
        loss, metrics = super().loss(v, base, batch)
        return loss * (100.0 if len(LOSSES) % 8 == 0 else 1.0), metrics


LOSSES = []


def updated(**changes):
    return {"update": UpdateConfig(**({"lr": 2e-3} | changes))}


HELD_OUT = EvalConfig(num_prompts=4, num_images=2, num_sample_prompts=1, num_steps=2, sample_every=1000)
RUNS = {
    "well": {"reward": red},
    "hacked": {"reward": red, "monitor": ("record:natural",)},
    "without spread": {"reward": coarse},
    "asleep": {"reward": red, **updated(lr=1e-9)},
    "failing": {"reward": picky},
    "bad steps": {"reward": red, "objective": NowAndThen()},
    "jumping": {"reward": red, "objective": Jumping(), **updated(max_grad_norm=0.0)},
    "by heart": {"reward": learned_by_heart, "eval": HELD_OUT, "others": [f"number {i}" for i in range(40)]},
}


def record(reward, others=(), **changes):
    """The columns, settings and held-out scores of a run of 48 iterations."""
    rollout = RolloutConfig(num_prompts=4, group_size=8, num_steps=3)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        if others:
            (Path(place) / "others.txt").write_text("\n".join(others))
            changes["eval_prompts"] = str(Path(place) / "others.txt")
        config = tiny_config(folder, **({"num_iterations": 48, "rollout": rollout} | updated() | changes))
        train(config, pipeline=tiny_pipeline(), reward=reward, prompts=PROMPTS, quiet=True)
        files, series = RunFiles(folder), Series()
        series.refresh(files)
        settings = {name: files.settings()[1].get(name) for name in ("rollout", "objective")}
        columns = {name: series.columns[name] for name in KEPT if name in series.columns}
        rounded = {name: [None if value is None else float(f"{value:.5g}") for value in c] for name, c in columns.items()}
        return {"settings": settings, "evaluation": files.evaluation(), "columns": rounded}


if __name__ == "__main__":
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in sys.argv[1:] or RUNS:
        recorded[name] = record(**RUNS[name])
        print(name, flush=True)
        parts = (f"{json.dumps(key)}: {json.dumps(recorded[key])}" for key in RUNS if key in recorded)
        FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")
