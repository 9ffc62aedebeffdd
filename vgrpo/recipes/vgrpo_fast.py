"""What is faster than the paper's V-GRPO on the sprites world, as it runs in the benchmark (docs/benchmark.md): the main job's
settings for as many images per iteration as the other methods draw, with more pairs, and for every image its own, which average
out over an iteration where a few shared ones do not, and so bear twice the learning rate. That is constant, so that the length
of a run does not matter."""

from dataclasses import replace

from vgrpo.objectives import VGRPO
from vgrpo.recipes.sprites import SPRITES

VGRPO_FAST = replace(
    SPRITES,
    rollout=replace(SPRITES.rollout, num_prompts=24),
    objective=VGRPO(shift=3.0, ref_weight=2.0, num_probes=8, share_pairs="none"),
    update=replace(SPRITES.update, lr=3e-3, lr_schedule="constant"),
)
