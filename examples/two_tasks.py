"""Your own prompts and two tasks in one run: colours in one file, light and dark in another, each with its own reward.

    python examples/two_tasks.py            # about a minute on two CPU cores
    python examples/two_tasks.py --quick    # a few seconds: does it run?

colours.txt has a prompt on each line. tones.jsonl has a field of its own, `tone`, which its reward reads.
"""

import argparse
from pathlib import Path

from vgrpo import Config, EvalConfig, RolloutConfig, UpdateConfig, train
from vgrpo.training.settings.tasks import TaskConfig

HERE = Path(__file__).parent
CHANNELS = {"red": 0, "green": 1, "blue": 2}


def colour(images, prompts):
    """How much the colour that the prompt names leads over the two others, [B]."""
    named = [next(channel for name, channel in CHANNELS.items() if name in prompt.text) for prompt in prompts]
    means = images.mean((2, 3))  # [B, 3]
    own = means[range(len(named)), named]
    return own - (means.sum(1) - own) / 2


def tone(images, prompts):
    """Brightness where the prompt's line says "light", darkness where it says "dark", [B]."""
    light = images.mean((1, 2, 3))
    sign = light.new_tensor([1.0 if prompt.metadata["tone"] == "light" else -1.0 for prompt in prompts])
    return sign * light


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one iteration of a few images")
    parser.add_argument("--output-dir", type=Path, help="by default a new folder under runs/")
    args = parser.parse_args()
    # Eight and twelve lines are too few to hold any out, so the same prompts are evaluated on.
    colours, tones = str(HERE / "colours.txt"), str(HERE / "tones.jsonl")
    task = TaskConfig(name="tones", prompts=tones, eval_prompts=tones, reward=("two_tasks:tone",), share=0.5)
    config = Config(
        output_dir=args.output_dir,
        num_iterations=1 if args.quick else 15,
        max_sequence_length=0,
        prompts=colours,
        eval_prompts=colours,
        reward=("two_tasks:colour",),
        tasks=(task,),  # every third prompt: its share is 0.5 where the run's own prompts have 1
        rollout=RolloutConfig(num_prompts=3 if args.quick else 12, group_size=2 if args.quick else 8, num_steps=8),
        update=UpdateConfig(lr=1e-3),
        eval=EvalConfig(num_prompts=8, num_images=1 if args.quick else 4, num_steps=8, num_sample_prompts=4),
    )
    result = train(config)
    before, after = (result.evaluation[part]["by_category"] for part in ("base", "tuned"))
    for task in before:
        print(f"{task:8} {before[task]['reward']:.3f} before, {after[task]['reward']:.3f} after")


if __name__ == "__main__":
    main()
