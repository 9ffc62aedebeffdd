"""What several processes cost, and what a slow judge costs: python benchmarks/scale.py

The sprites job with so many images for each process, in one process and in two, each with one thread. Prints the median seconds
of an iteration, the efficiency (one's over two's), and the bytes that a process hands to the others in an iteration. Then one
process does the job again, drawn a prompt at a time, with a judge that sleeps as long as drawing takes: how much is hidden.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor

from vgrpo.core.processes import Processes
from vgrpo.core.types import Prompt
from vgrpo.recipes import RECIPES
from vgrpo.rewards.sprites import sprites
from vgrpo.training.loop import iterate
from vgrpo.training.processes.joining import joined
from vgrpo.training.processes.peers import Peers
from vgrpo.training.start import Given, start_run


class Counting(Peers):
    """Counts what this process gives to a sum or to the others."""

    num_bytes = 0

    def _sum(self, value: Tensor) -> Tensor:
        self.num_bytes += value.nbytes
        return super()._sum(value)

    def _all(self, value: Tensor) -> list[Tensor]:
        self.num_bytes += value.nbytes
        return super()._all(value)


def measure(processes: Processes, folder: Path, prompts_each: int, rounds: int) -> dict[str, float]:
    """Of this process, without the first two iterations."""
    recipe = RECIPES["sprites"]
    rollout = replace(recipe.rollout, num_prompts=prompts_each * processes.size)
    config = replace(recipe, output_dir=folder / str(processes.size), rollout=rollout, precision="fp32", device="cpu")
    everyone = Counting(signs=processes.signs) if isinstance(processes, Peers) else processes
    seconds = []
    with closing(start_run(config, processes=everyone)) as run:
        for turn in range(rounds + 2):
            if turn == 2 and isinstance(everyone, Counting):
                everyone.num_bytes = 0
            everyone.most(0)  # all begin together
            began = time.perf_counter()
            iterate(run)
            seconds.append(time.perf_counter() - began)
            run.iteration += 1
    num_bytes = everyone.num_bytes / rounds if isinstance(everyone, Counting) else 0
    return {"seconds": statistics.median(seconds[2:]), "bytes_per_iteration": num_bytes}


class Slow:
    """The sprites' verifier, which first sleeps so many seconds for each image."""

    __name__, seconds = "slow", 0.0

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        time.sleep(self.seconds * len(images))
        return sprites(images, prompts)


def measure_hidden(folder: Path, num_prompts: int, rounds: int) -> dict[str, float]:
    """Medians of an iteration whose judge is as slow as drawing: its seconds, the judge's, and how many of these are hidden."""
    recipe, slow = RECIPES["sprites"], Slow()
    rollout = replace(recipe.rollout, num_prompts=num_prompts, batch_size=recipe.rollout.group_size)
    config = replace(recipe, output_dir=folder / "slow", rollout=rollout, precision="fp32", device="cpu")
    with closing(start_run(config, Given(reward=slow))) as run:
        lines = []
        for turn in range(rounds + 3):
            if turn == 3:
                drawing = statistics.median(line["seconds/rollout"] for line in lines[1:])
                slow.seconds = drawing / (num_prompts * rollout.group_size)
            lines.append(iterate(run))
            run.iteration += 1
    names = ("seconds/total", "seconds/judge", "seconds/judge_hidden")
    return {name: statistics.median(line[name] for line in lines[3:]) for name in names}


def work(rank: int, size: int, port: int, folder: Path, prompts_each: int, rounds: int) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    with joined() as processes:
        found = measure(processes, folder, prompts_each, rounds)
    (folder / f"{size}-{rank}.json").write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a process; each has the recipe's 8 images")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        for size in (1, asked.processes):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            arguments = (size, port, Path(name), asked.prompts, asked.rounds)
            torch.multiprocessing.spawn(work, arguments, nprocs=size)
            found.append(json.loads((Path(name) / f"{size}-0.json").read_text()))
        torch.set_num_threads(1)
        hidden = measure_hidden(Path(name), asked.prompts, asked.rounds)
    alone, together = found
    line = {
        "machine": f"{platform.node()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "processes": asked.processes,
        "prompts_each": asked.prompts,
        "seconds_alone": round(alone["seconds"], 3),
        "seconds_together": round(together["seconds"], 3),
        "efficiency": round(alone["seconds"] / together["seconds"], 3),
        "bytes_per_iteration": round(together["bytes_per_iteration"]),
        "slow_judge": {name: round(value, 3) for name, value in hidden.items()},
        "hidden_share": round(hidden["seconds/judge_hidden"] / hidden["seconds/judge"], 3),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
