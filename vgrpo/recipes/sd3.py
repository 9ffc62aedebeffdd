"""Stable Diffusion 3.5 Medium, or by --model any Stable Diffusion 3, with your own reward and prompts: give --prompts and
--reward.

The published SD 3.5 Medium settings of V-GRPO (arXiv:2604.23380) as far as they are known: LoRA rank 32, alpha 64,
learning rate 3e-4, 48 prompts x 24 images, 40 steps, no guidance, four probes, on-policy with the soft clip. The
micro-batch and the rollout batch are our choice.
"""

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig

SD3 = Config(
    model="stabilityai/stable-diffusion-3.5-medium",
    num_iterations=150,
    prompts="prompts.txt",
    rollout=RolloutConfig(num_prompts=48, group_size=24, num_steps=40, shift=3.0, guidance=1.0, batch_size=24),
    update=UpdateConfig(lr=3e-4, micro_batch_size=8),
    eval=EvalConfig(num_steps=40, shift=3.0, guidance=1.0),
)
