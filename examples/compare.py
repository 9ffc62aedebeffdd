"""Two algorithms on the same prompts, starting noise and number of images: V-GRPO and Flow-GRPO.

    python examples/compare.py            # two to three minutes on two CPU cores
    python examples/compare.py --quick    # a few seconds: does it run?

Add a line to ENTRIES for another of `vgrpo.objectives.OBJECTIVES`. One seed says little: `vgrpo bench` races with several.
"""

import argparse
import json
from pathlib import Path

from vgrpo import Config, EvalConfig, RolloutConfig, UpdateConfig, train
from vgrpo.objectives import OBJECTIVES

ENTRIES = {
    "vgrpo": OBJECTIVES["vgrpo"](shift=3.0),
    "flowgrpo": OBJECTIVES["flowgrpo"](num_window_steps=3, kl_weight=0.0),  # the fast form: 3 stochastic steps, no KL
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one iteration of a few images")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/compare"), help="gets a run's folder for each entry")
    args = parser.parse_args()
    for name, objective in ENTRIES.items():
        config = Config(
            output_dir=args.output_dir / name,
            num_iterations=1 if args.quick else 20,
            max_sequence_length=0,
            objective=objective,
            rollout=RolloutConfig(num_prompts=2 if args.quick else 16, group_size=2 if args.quick else 8, num_steps=8),
            update=UpdateConfig(lr=7e-4),
            eval=EvalConfig(num_prompts=7, num_images=1 if args.quick else 4, num_steps=8, num_sample_prompts=7),
        )
        result = train(config, quiet=True)
        lines = [json.loads(line) for line in (config.output_dir / "metrics.jsonl").read_text().splitlines()]
        before, after = (result.evaluation[part]["reward"] for part in ("base", "tuned"))
        seconds = sum(line["seconds/total"] for line in lines)
        print(f"{name:10} held-out reward {before:.3f} before, {after:.3f} after; {seconds:.0f} s, {len(lines)} iterations")


if __name__ == "__main__":
    main()
