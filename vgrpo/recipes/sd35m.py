"""What the recipes for Stable Diffusion 3.5 Medium share.

Published (V-GRPO, arXiv:2604.23380): LoRA of rank 32 with alpha 64, learning rate 3e-4, 48 prompts x 24 images, 40 steps of
an ODE solver, no guidance in training and evaluation. Our choice: 512 pixels, the solver's time shift of 3, prompt files, and
what lets them fit into 24 GB by `vgrpo plan`.
"""

from dataclasses import replace

from vgrpo.models.settings import MemoryConfig
from vgrpo.recipes.sd3 import SD3

SD35M = replace(
    SD3,
    resolution=512,
    update=replace(SD3.update, micro_batch_size=4),
    memory=MemoryConfig(gradient_checkpointing=True, vae_slicing=True, offload_encoders=True, offload_rewards=True),
)
