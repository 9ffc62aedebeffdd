"""FLUX.1-dev with your own reward and prompts: give --prompts and --reward.

The settings of V-GRPO (arXiv:2604.23380) for it as far as they are known: 300 iterations, 16 DPM-Solver++ steps, guidance 3.5,
four pairs, ratio clip. Our choice: an adapter with learning rate 1e-4, 8 prompts x 12 images, four optimiser steps per
rollout, 512 pixels, a time shift of 3, the clip's range and the sizes of batches.
"""

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.objectives import VGRPO
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig

FLUX1 = Config(
    model="black-forest-labs/FLUX.1-dev",
    num_iterations=300,
    prompts="prompts.txt",
    resolution=512,
    rollout=RolloutConfig(num_prompts=8, group_size=12, num_steps=16, shift=3.0, guidance=3.5, batch_size=12),
    objective=VGRPO(shift=3.0, ratio_clip=0.02),
    update=UpdateConfig(lr=1e-4, num_minibatches=4, micro_batch_size=2),
    eval=EvalConfig(num_steps=16, shift=3.0, guidance=3.5),
)
