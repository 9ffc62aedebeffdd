"""What an iteration ahead saves: python benchmarks/lag.py

The sprites job with a judge that waits so many seconds for each prompt's images, as a slow server does, at lag 0 and at lag 1,
for several seeds. Prints the seconds of an iteration and the held-out score of each, a JSON line at the end. With --workers it
starts so many rollout workers on this machine.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.recipes import RECIPES
from vgrpo.rewards.registry import load_reward
from vgrpo.training.loop import train
from vgrpo.training.start import Given


def slow_judge(seconds: float):
    """The sprites' verifier, after a wait."""
    verifier = load_reward("sprites")

    def judge(images: Tensor, prompts: list[Prompt]) -> Tensor:
        time.sleep(seconds)
        return verifier(images, prompts)

    judge.judges = verifier.judges
    return judge


def measure(folder: Path, asked: argparse.Namespace, lag: int, seed: int, workers: list[str]) -> dict[str, float]:
    recipe = RECIPES["sprites"]
    rollout = replace(recipe.rollout, lag=lag, batch_size=recipe.rollout.group_size)
    config = replace(
        recipe,
        output_dir=folder / f"lag-{lag}-{seed}",
        seed=seed,
        rollout=rollout,
        num_iterations=asked.iterations,
        precision="fp32",
        device="cpu",
        eval=replace(recipe.eval, sample_every=10**6, num_prompts=asked.eval_prompts),
    )
    given = Given(reward=slow_judge(asked.seconds), rollout_workers=workers)
    result = train(config, given)
    lines = [json.loads(line) for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds/total"] for line in lines[2:]]
    return {"seconds": statistics.median(seconds), "reward": result.evaluation["tuned"]["reward"]}


def started_worker(stack: ExitStack) -> str:
    command = [
        sys.executable,
        "-m",
        "vgrpo",
        "serve-rollout",
        "sprites",
        "--port",
        "0",
        "--precision",
        "fp32",
        "--device",
        "cpu",
    ]
    process = stack.enter_context(subprocess.Popen([*command, "--max-sequence-length", "0"], stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    return process.stdout.readline().split(" at ")[1].split(";")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.25, help="that the judge waits for each prompt")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--eval-prompts", type=int, default=350)
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    line = {"machine": f"{platform.node()}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1), **vars(asked)}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        workers = [started_worker(stack) for _ in range(asked.workers)]
        for lag in (0, 1):
            found = [measure(Path(name), asked, lag, seed, workers) for seed in range(asked.seeds)]
            line[f"seconds_lag_{lag}"] = round(statistics.median(each["seconds"] for each in found), 3)
            line[f"rewards_lag_{lag}"] = [round(each["reward"], 4) for each in found]
    print(json.dumps(line))


if __name__ == "__main__":
    main()
