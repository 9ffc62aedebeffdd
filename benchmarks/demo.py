"""What `make demo` gains, in what time: python benchmarks/demo.py --seeds 0 1 2 [other options of the job]

Trains the main job once for each seed, as `make demo` does, and prints, per seed: seconds of training and all in all, strict
score and reward before and after, RMS of ghosts in empty cells (255ths) in the first and the last ten iterations, and the share
of groups without a difference at the end. Run folders that are finished are read, not trained again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LAST = 10  # iterations


def measured(folder: Path) -> dict[str, Any]:
    """Of a finished run's folder."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = json.loads((folder / "eval.json").read_text())

    def mean(name: str, part: list[dict[str, Any]]) -> float:
        return statistics.mean(line[name] for line in part)

    return {
        "training_seconds": round(sum(line["seconds/total"] for line in lines), 1),
        **{name: [scores[model][name] for model in ("base", "tuned")] for name in ("strict", "reward")},
        "lift": round(scores["tuned"]["strict"] - scores["base"]["strict"], 4),
        "ghosts": [round(-mean("monitor/sprites_clean", part), 2) for part in (lines[:LAST], lines[-LAST:])],
        "groups_without_difference": round(mean("reward/zero_std_groups", lines[-LAST:]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--gpus", default="auto")
    given, words = parser.parse_known_args()
    for seed in given.seeds:
        folder, began = given.output_dir / str(seed), time.perf_counter()
        job = [
            "train",
            "sprites",
            "--gpus",
            given.gpus,
            "--seed",
            str(seed),
            "--output-dir",
            str(folder),
            "--resume",
            "--quiet",
        ]
        if not (folder / "finished").exists():
            subprocess.run([sys.executable, "-m", "vgrpo", *job, *words], check=True)
        print(json.dumps({"seed": seed, "seconds": round(time.perf_counter() - began, 1)} | measured(folder)), flush=True)


if __name__ == "__main__":
    main()
