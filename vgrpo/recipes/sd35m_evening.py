"""Stable Diffusion 3.5 Medium on PickScore in an evening: `vgrpo train sd35m-evening`.

About an hour on an RTX 4090 by `vgrpo plan --gpu 4090`, in 24 GB. All of it is our choice, and none was tried at full size: a
few groups of images in 10 steps, updates on the better and the worse half of each, and a small evaluation.
"""

from dataclasses import replace

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.recipes.sd35m_preference import preference
from vgrpo.training.settings.config import RolloutConfig

PICKSCORE = preference("pickscore")
SD35M_EVENING = replace(
    PICKSCORE,
    num_iterations=40,
    rollout=RolloutConfig(num_prompts=12, group_size=12, num_steps=10, shift=3.0, guidance=1.0, batch_size=12),
    update=replace(PICKSCORE.update, keep_share=0.5),
    eval=EvalConfig(num_steps=20, shift=3.0, guidance=1.0, num_prompts=64, num_images=1, num_sample_prompts=8),
    checkpoint_every=10,
)
