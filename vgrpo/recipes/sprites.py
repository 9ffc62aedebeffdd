"""The main job: the bundled sprites model learns to draw what it is told, on two CPU cores, in minutes.

What differs from the paper's setting, each for more progress per second in a run this short (docs/results.md has the figures):
five solver steps; groups of 16, of which the best and the worst are trained on, a quarter in all; for each image pairs of its
own, every second one with opposite noise, mostly at high noise, where it is decided what goes where; three optimiser steps per
rollout, which hold as the push away from bad images is bounded and a distance to the untrained model keeps its images; and
adapters also on feed-forward and modulation layers.
"""

from vgrpo.models.adapters.sd3 import SD3Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.objectives import VGRPO
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig

FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
MODULATION = ("norm1.linear", "norm1_context.linear")

SPRITES = Config(
    max_sequence_length=0,  # the model was trained without padding, which would dwarf its 16 image tokens
    num_iterations=100,
    monitor=("sprites_clean",),
    rollout=RolloutConfig(num_prompts=12, group_size=16, num_steps=5),
    objective=VGRPO(shift=3.0, share_pairs="none", antithetic=True, mirrored=True, ref_weight=3.0),
    # The gradient's norm is 0.05 to 0.1 while all is well; a spike must not move the weights further.
    update=UpdateConfig(lr=1.2e-3, lr_schedule="linear", keep_share=0.25, num_minibatches=3, max_grad_norm=0.05),
    lora=LoraConfig(targets=(*SD3Policy.lora_targets, *FEED_FORWARD, *MODULATION)),
)
