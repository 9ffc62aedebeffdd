"""What was faster than the paper's V-GRPO on the sprites world with one optimiser step per rollout, as it ran in the benchmark
(docs/benchmark.md): many small groups, updates on the best and the worst half of each, and a constant learning rate, so that
the length of a run does not matter. The main job, with several, is faster still."""

from dataclasses import replace

from vgrpo.models.adapters.sd3 import SD3Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.objectives import VGRPO
from vgrpo.recipes.sprites import FEED_FORWARD, SPRITES
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig

VGRPO_FAST = replace(
    SPRITES,
    num_iterations=90,
    rollout=RolloutConfig(num_prompts=24, group_size=8, num_steps=8),
    objective=VGRPO(shift=3.0, ref_weight=2.0),
    update=UpdateConfig(lr=1.5e-3, keep_share=0.5, max_grad_norm=0.05),
    monitor=(),
    lora=LoraConfig(targets=(*SD3Policy.lora_targets, *FEED_FORWARD)),
)
