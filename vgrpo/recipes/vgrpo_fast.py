"""What is faster than the paper's V-GRPO on the sprites world, as it runs in the benchmark (docs/benchmark.md): the main job's
settings for as many images per iteration as the other methods draw, with a constant learning rate, so that the length of a run
does not matter."""

from dataclasses import replace

from vgrpo.recipes.sprites import SPRITES

VGRPO_FAST = replace(
    SPRITES, rollout=replace(SPRITES.rollout, num_prompts=24), update=replace(SPRITES.update, lr_schedule="constant")
)
