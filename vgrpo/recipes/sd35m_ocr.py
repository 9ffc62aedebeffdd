"""Stable Diffusion 3.5 Medium on words to be written: `vgrpo train sd35m-ocr`.

Published for this stage (V-GRPO, arXiv:2604.23380): ten pairs per image, and as the only control the distance to the old
weights' prediction, with weight 0.3. Our choice: 100 iterations (published are 30, after four other stages), four optimiser
steps per rollout, without which that distance is 0, prompts from `vgrpo prompts`, and four processes that read the pictures
while others are drawn.
"""

from dataclasses import replace

from vgrpo.objectives import VGRPO
from vgrpo.recipes.sd35m import SD35M

SD35M_OCR = replace(
    SD35M,
    prompts="ocr.jsonl",
    eval_prompts="ocr-held-out.jsonl",
    reward=("ocr",),
    reward_workers=4,
    num_iterations=100,
    objective=VGRPO(num_probes=10, soft_clip=None, kl_weight=0.3),
    update=replace(SD35M.update, num_minibatches=4, micro_batch_size=2),
)
