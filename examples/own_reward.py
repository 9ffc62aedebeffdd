"""Teach the bundled model a taste of your own: warm pictures, with more red than blue.

    python examples/own_reward.py            # about a minute on two CPU cores
    python examples/own_reward.py --quick    # a few seconds: does it run?

Change `warmth` to what you want. The run's folder is printed at the end; open report.html in it.
"""

import argparse
from pathlib import Path

from vgrpo import Config, EvalConfig, RolloutConfig, UpdateConfig, train


def warmth(images, prompts):
    """Images [B, 3, H, W] in [0, 1] and their B prompts to B numbers; more is better."""
    return (images[:, 0] - images[:, 2]).mean((1, 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one iteration of four images")
    parser.add_argument("--output-dir", type=Path, help="by default a new folder under runs/")
    args = parser.parse_args()
    config = Config(
        output_dir=args.output_dir,
        num_iterations=1 if args.quick else 15,
        max_sequence_length=0,
        rollout=RolloutConfig(num_prompts=2 if args.quick else 16, group_size=2 if args.quick else 8, num_steps=8),
        update=UpdateConfig(lr=1e-3),
        eval=EvalConfig(num_prompts=7 if args.quick else 28, num_images=1, num_steps=8, num_sample_prompts=7),
    )
    result = train(config, reward=warmth)
    before, after = (result.evaluation[name]["reward"] for name in ("base", "tuned"))
    print(f"warmth on held-out prompts: {before:.3f} before, {after:.3f} after")


if __name__ == "__main__":
    main()
