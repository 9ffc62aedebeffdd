"""The main job: the bundled sprites model learns to draw what it is told, on two CPU cores, in minutes.

What differs from the paper's setting, each for more progress per second in a run this short (docs/results.md has the figures):
many small groups, updates on the best and the worst half of each, pairs drawn mostly at high noise, where it is decided what
goes where, and a distance to the untrained model, without which the learning rate that pays would in the end carry the model
off its own images.
"""

from vgrpo.models.adapters.sd3 import SD3Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.objectives import VGRPO
from vgrpo.training.config import Config, RolloutConfig, UpdateConfig

SPRITES = Config(
    max_sequence_length=0,  # the model was trained without padding, which would dwarf its 16 image tokens
    num_iterations=90,
    monitor=("sprites_clean",),
    rollout=RolloutConfig(num_prompts=32, group_size=8, num_steps=8),
    objective=VGRPO(shift=3.0, ref_weight=2.0),
    # The gradient's norm is 0.05 to 0.1 while all is well; a spike must not move the weights further.
    update=UpdateConfig(lr=1.5e-3, lr_schedule="linear", keep_share=0.5, max_grad_norm=0.05),
    lora=LoraConfig(
        targets=(*SD3Policy.lora_targets, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
    ),
)
