"""What the engine costs on top of the network: python benchmarks/engine.py [--tokens 24 270 1040]

The main job's iteration, at several lengths of sequence, is compared with the bare forwards and backwards that it cannot do
without (same shapes, dtype, chunks and threads), the two alternating in one process. Prints a line for each length: medians of
the whole iteration and of the update, their ratios to the bare work, and the judge's share. 24 tokens are the bundled model's
own job; longer sequences are a fresh network of its size with larger boards, and a reward that costs nothing. Run it on a
machine that does nothing else.
"""

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel

from vgrpo.models.weight_sets import merged, trainable
from vgrpo.recipes.sprites import SPRITES
from vgrpo.training.loop import iterate
from vgrpo.training.run import Run
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given, start_run
from vgrpo.worlds.sprites.autoencoder import CellAutoencoder
from vgrpo.worlds.sprites.build import build_pipeline
from vgrpo.worlds.sprites.render import CELL, GRID

WARM_UP = 2  # rounds
POINTS = 768  # trained on per iteration at the bundled model's length; longer sequences get as many fewer
TEXT_TOKENS = 8  # in the mean, of the bundled model's prompts


def job(num_tokens: int, folder: Path, seed: int = 0) -> Run:
    """A run whose network sees about so many tokens, text among them."""
    config = replace(SPRITES, output_dir=folder / str(num_tokens), seed=seed, checkpoint_every=10_000)
    side = round(math.sqrt(max(GRID**2, num_tokens - TEXT_TOKENS)))
    if side == GRID:
        return start_run(config)
    torch.manual_seed(seed)
    pipeline: Any = build_pipeline(CellAutoencoder(latent_channels=24, hidden_channels=32))
    shape = {"sample_size": side, "pos_embed_max_size": side}
    pipeline.register_modules(transformer=SD3Transformer2DModel.from_config({**pipeline.transformer.config, **shape}))
    num_prompts = max(2, POINTS * GRID**2 // (side**2 * SPRITES.rollout.group_size * 2))
    # The bare work has no guidance; a fresh pipeline has no card to say so, and its family's default would double every batch.
    config = replace(
        config,
        resolution=side * CELL,
        monitor=(),
        eval=replace(config.eval, num_prompts=0),
        rollout=replace(config.rollout, num_prompts=num_prompts, guidance=1.0),
        update=replace(config.update, num_minibatches=min(config.update.num_minibatches, num_prompts)),
    )
    prompts = ["a red heart", "two blue stars", "a key left of a mug", "the word CAT"] * num_prompts
    return start_run(config, Given(pipeline=pipeline, reward=lambda images, prompts: images.mean((1, 2, 3)), prompts=prompts))


def bare_rollout(run: Run) -> float:
    """The network's work of one rollout and nothing else; returns seconds."""
    rollout: RolloutConfig = run.config.rollout
    policy, count = run.policy, rollout.num_prompts * rollout.group_size
    x, t, cond = torch.randn(count, *policy.latent_shape), torch.rand(count), policy.encode(["a red heart"] * count)
    began = time.perf_counter()
    with torch.no_grad(), merged(policy.module):
        for _ in range(rollout.num_steps):
            policy.velocity(x, t, cond)
    return time.perf_counter() - began


def bare_update(run: Run) -> float:
    """The forwards and backwards of one rollout's optimiser steps and nothing else; returns seconds."""
    config, policy = run.config, run.policy
    objective: Any = config.objective
    count = config.update.num_minibatches
    rows = round(config.update.keep_share * config.rollout.num_prompts * config.rollout.group_size / count)
    num_points = rows * objective.num_probes
    x, t = torch.randn(num_points, *policy.latent_shape), torch.rand(num_points)
    cond = policy.encode(["a red heart"] * num_points)
    began = time.perf_counter()
    for minibatch in range(count):
        with torch.no_grad():
            for _ in objective.needed(minibatch, config.update.num_epochs):
                policy.velocity(x, t, cond)
        with policy.attention():
            policy.velocity(x, t, cond).float().square().mean().backward()
    seconds = time.perf_counter() - began
    for parameter in trainable(policy.module).values():
        parameter.grad = None
    return seconds


def rounds(run: Run, count: int) -> Iterator[dict[str, float]]:
    for number in range(count + WARM_UP):
        line = iterate(run)
        run.iteration += 1
        found = {
            "iteration": line["seconds/total"],
            "update": line["seconds/update"],
            "reward": line["seconds/reward"],
            "bare_rollout": bare_rollout(run),
            "bare_update": bare_update(run),
        }
        if number >= WARM_UP:
            yield found


def measured(run: Run, count: int) -> dict[str, float]:
    found = list(rounds(run, count))

    def median_of(function: Any) -> float:
        return round(statistics.median(function(each) for each in found), 4)

    return {
        "tokens": run.policy.num_tokens,
        "iteration_seconds": median_of(lambda each: each["iteration"]),
        "update_seconds": median_of(lambda each: each["update"]),
        "iteration_ratio": median_of(lambda each: each["iteration"] / (each["bare_rollout"] + each["bare_update"])),
        "update_ratio": median_of(lambda each: each["update"] / each["bare_update"]),
        "judge_share": median_of(lambda each: each["reward"] / each["iteration"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tokens", type=int, nargs="+", default=[24, 270, 1040])
    given = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    with tempfile.TemporaryDirectory() as folder:
        for num_tokens in given.tokens:
            with closing(job(num_tokens, Path(folder))) as run:
                print(json.dumps(measured(run, given.rounds) | {"rounds": given.rounds, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
