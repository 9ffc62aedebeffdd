"""SDXL on PickScore: `vgrpo train sdxl-pickscore`.

V-GRPO (arXiv:2604.23380) publishes no settings for it; all are our choice and none was tried at full size: those of
sd15_pickscore.py with fewer images at once, at the model's own 1024 pixels. By `vgrpo plan` it fits into 16 GB.
"""

from dataclasses import replace

from vgrpo.recipes.sd15_pickscore import SD15_PICKSCORE

SDXL_PICKSCORE = replace(
    SD15_PICKSCORE,
    model="stabilityai/stable-diffusion-xl-base-1.0",
    rollout=replace(SD15_PICKSCORE.rollout, batch_size=8),
    update=replace(SD15_PICKSCORE.update, micro_batch_size=1),
)
