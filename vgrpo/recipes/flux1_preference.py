"""FLUX.1-dev on four preference rewards: `vgrpo train flux1-preference`.

Published (V-GRPO, arXiv:2604.23380): the rewards HPSv2.1, PickScore, ImageReward and UnifiedReward on HPDv2's prompts, and
what flux1.py names as published. Our choice: the wording of UnifiedReward's question, its server on this machine, equal
weights, an evaluation that draws as the rollout does, a frozen network of 4 bits, with which it fits into 24 GB by `vgrpo plan`
(bf16 takes 40: --memory.weights bf16), and the rest of flux1.py.
"""

from dataclasses import replace

from vgrpo.models.settings import MemoryConfig
from vgrpo.recipes.flux1 import FLUX1

FLUX1_PREFERENCE = replace(
    FLUX1,
    prompts="preference.txt",
    reward=("hpsv2", "pickscore", "imagereward", "unifiedreward=http://localhost:8000"),
    memory=MemoryConfig(
        weights="nf4", gradient_checkpointing=True, vae_slicing=True, offload_encoders=True, offload_rewards=True
    ),
)
