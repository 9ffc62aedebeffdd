"""A run's folder as a long training job leaves it, made of noise: for the workbench's benchmark and its tests."""

import json
import math
import random
from pathlib import Path

from PIL import Image

SETTINGS = """model: sprites
num_iterations: {iterations}
seed: 0
reward: [sprites, pickscore]
monitor: [sprites_strict]
objective: {{name: vgrpo}}
rollout: {{num_prompts: 16, group_size: 16}}
eval: {{num_steps: 16, solver: dpm_solver_2m, shift: 1.0, guidance: 1.0}}
update: {{lr: {lr}}}
"""
BOXES = [["red thing", 250, 250, 500, 500], ["blue thing", 500, 0, 750, 250]]
NAMES = "seconds/rollout seconds/reward seconds/update surrogate/mean surrogate/cv_within surrogate/cv_between kl loss".split()


def make_run(
    folder: Path, *, iterations: int, sets: int, prompts: int, groups: int = 0, lr: float = 3e-4, hacked: bool = False
) -> Path:
    """`sets` folders of samples with 4 images of each prompt, and groups of the last iterations."""
    rng = random.Random(repr((iterations, lr)))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(SETTINGS.format(iterations=iterations, lr=lr))
    lines = (json.dumps(_line(rng, i, iterations, hacked)) + "\n" for i in range(iterations))
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / "finished").write_text(f"{iterations}\n")
    scores = [
        {"strict": s, "reward": r, "by_category": {"colors": {"strict": s, "reward": r}}} for s, r in ((0.25, 0.4), (0.5, 0.7))
    ]
    content = {"num_prompts": 35, "num_images": 140, "base": scores[0], "tuned": scores[1]}
    (folder / "eval.json").write_text(json.dumps(content))
    texts = [f"{rng.choice(('a red', 'two blue', 'three green'))} thing number {p}" for p in range(prompts)]
    for number in range(sets):
        _samples(
            folder / "samples" / f"{number * max(1, iterations // max(1, sets - 1)):06d}", rng, texts, number / max(1, sets - 1)
        )
    for iteration in range(iterations - groups, iterations):
        _groups(folder / "groups", rng, iteration)
    return folder


def _line(rng: random.Random, i: int, iterations: int, hacked: bool) -> dict[str, float]:
    rise = 1 - math.exp(-4 * i / iterations)
    reward = 0.4 + 0.3 * rise + rng.gauss(0, 0.02)
    monitor = 0.3 + 0.2 * rise - (0.5 * max(0.0, i / iterations - 0.5) if hacked else 0) + rng.gauss(0, 0.02)
    line = {
        "iteration": i,
        "reward/mean": reward,
        "reward/std": 0.15 - 0.05 * rise,
        "reward/sprites/mean": reward + 0.05,
        "reward/pickscore/mean": reward - 0.05,
        "reward/failed": 0,
        "reward/zero_std_groups": 0.1 + 0.2 * rise,
        "diversity": 1.1 - 0.3 * rise,
        "monitor/sprites_strict": monitor,
        "ratio/first": 1.0,
        "ratio/mean": 1 + rng.gauss(0, 0.01),
        "ratio/min": 0.8 - rng.random() * 0.1,
        "ratio/max": 1.2 + rng.random() * 0.2,
        "clip_share": rng.random() * 0.1,
        "grad_norm": 0.05 * math.exp(rng.gauss(0, 0.2)),
        "images_per_second": 40 + rng.gauss(0, 1),
        "seconds/total": 6.4,
        "nfe/rollout": 10,
        "nfe/old": 0,
        "nfe/train": 4,
    }
    return line | {name: abs(rng.gauss(1, 0.1)) for name in NAMES}


def _picture(rng: random.Random, good: float, columns: int, rows: int, side: int = 64) -> Image.Image:
    picture = Image.new("RGB", (columns * side, rows * side), (236, 232, 220))
    for column in range(columns):
        for row in range(rows):
            colour = tuple(int(40 + 180 * (good if channel == row % 3 else rng.random() * 0.6)) for channel in range(3))
            size = rng.randrange(side // 4, side // 2)
            x, y = (rng.randrange(side - size) for _ in range(2))
            left, top = column * side + x, row * side + y
            picture.paste(colour, (left, top, left + size, top + size))
    return picture


def _samples(folder: Path, rng: random.Random, texts: list[str], good: float) -> None:
    folder.mkdir(parents=True)
    (folder / "prompts.txt").write_text("".join(f"{text}\n" for text in texts))
    for index in range(len(texts)):
        _picture(rng, good, 4, 1).save(folder / f"{index:02d}.png", compress_level=1)
    reward = [[round(min(1.0, max(0.0, rng.gauss(0.4 + 0.3 * good, 0.2))), 3) for _ in range(4)] for _ in texts]
    content = {"rewards": ["sprites"], "reward": reward, "parts": [[[r] for r in row] for row in reward]}
    content |= {"strict": [[float(r > 0.6) for r in row] for row in reward], "tags": ["colors" for _ in texts]}
    content["monitors"] = {"sprites_strict": content["strict"]}
    content["found"] = {"sprites": [[BOXES for _ in row] for row in reward]}
    (folder / "scores.json").write_text(json.dumps(content))


def _groups(folder: Path, rng: random.Random, iteration: int) -> None:
    folder.mkdir(exist_ok=True)
    groups = []
    for number in range(2):
        reward = sorted((rng.random() for _ in range(16)), reverse=True)
        middle = sum(reward) / 16
        groups.append(
            {
                "group": number,
                "prompt": f"{rng.choice(('a red', 'two blue'))} thing number {rng.randrange(1000)}",
                "tag": "colors",
                "members": rng.sample(range(16), 16),
                "reward": reward,
                "parts": [[r] for r in reward],
                "failed": [False] * 16,
                "advantage": [(r - middle) * 3 for r in reward],
                "noise": [0] * 16,
                "found": {"sprites": [BOXES] * 16},
            }
        )
    _picture(rng, 0.5, 16, 2).save(folder / f"{iteration:06d}.jpg", quality=85)
    content = {"iteration": iteration, "cell": [64, 64], "rewards": ["sprites"], "num_groups": 16, "groups": groups}
    (folder / f"{iteration:06d}.json").write_text(json.dumps(content))
