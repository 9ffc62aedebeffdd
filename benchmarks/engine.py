"""What the engine costs on top of the network: python benchmarks/engine.py

One training iteration is compared with the bare forwards and backwards it cannot do without (same shapes, dtype and threads),
the two alternating in one process. Prints medians and their ratio, and the judge's share of an iteration.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from vgrpo.models.weight_sets import merged, trainable
from vgrpo.recipes import RECIPES
from vgrpo.training.loop import iterate
from vgrpo.training.run import Run
from vgrpo.training.start import start_run


def bare(run: Run) -> float:
    """The network's work of one iteration and nothing else; returns seconds."""
    config, policy = run.config, run.policy
    num_images = config.rollout.num_prompts * config.rollout.group_size
    num_rows = round(config.update.keep_share * num_images) * config.objective.num_probes
    x = torch.randn(num_images, *policy.latent_shape)
    cond = policy.encode(["a red heart"] * num_images)
    x_train = torch.randn(num_rows, *policy.latent_shape)
    cond_train = policy.encode(["a red heart"] * num_rows)
    t, t_train = torch.rand(num_images), torch.rand(num_rows)
    started = time.perf_counter()
    with torch.no_grad(), merged(policy.module):
        for _ in range(config.rollout.num_steps):
            policy.velocity(x, t, cond)
    with torch.no_grad():
        for _ in config.objective.needed(0, config.update.num_epochs):
            policy.velocity(x_train, t_train, cond_train)
    policy.velocity(x_train, t_train, cond_train).float().square().mean().backward()
    seconds = time.perf_counter() - started
    for parameter in trainable(policy.module).values():
        parameter.grad = None
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        recipe = RECIPES["sprites"]
        run = start_run(replace(recipe, output_dir=Path(folder) / "run"))
        engine, network, judge = [], [], []
        for round_number in range(rounds + 2):
            line = iterate(run)
            seconds = bare(run)
            run.iteration += 1
            if round_number >= 2:  # the first rounds warm up
                engine.append(line["seconds/total"])
                judge.append(line["seconds/reward"])
                network.append(seconds)
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "rounds": rounds,
        "engine_seconds": statistics.median(engine),
        "bare_seconds": statistics.median(network),
        "ratio": statistics.median(a / b for a, b in zip(engine, network, strict=True)),
        "judge_share": statistics.median(a / b for a, b in zip(judge, engine, strict=True)),
    }
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}, indent=1))


if __name__ == "__main__":
    main()
