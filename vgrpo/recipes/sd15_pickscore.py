"""Stable Diffusion 1.5 on PickScore: `vgrpo train sd15-pickscore`.

V-GRPO (arXiv:2604.23380) publishes no settings for it; all are our choice and none was tried at full size. Without guidance
it draws poorly, so guidance of 5 is part of rollout, training and evaluation and doubles the network's evaluations. By `vgrpo
plan` it fits into 12 GB.
"""

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.settings import MemoryConfig
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig

SD15_PICKSCORE = Config(
    model="stable-diffusion-v1-5/stable-diffusion-v1-5",
    num_iterations=150,
    prompts="preference.txt",
    reward=("pickscore",),
    rollout=RolloutConfig(num_prompts=24, group_size=16, num_steps=20, shift=1.0, guidance=5.0, batch_size=32),
    update=UpdateConfig(lr=1e-4, micro_batch_size=2),
    memory=MemoryConfig(gradient_checkpointing=True, vae_slicing=True, offload_encoders=True, offload_rewards=True),
    eval=EvalConfig(num_steps=20, shift=1.0, guidance=5.0),
)
