"""Stable Diffusion 3.5 Medium on GenEval's tasks: `vgrpo train sd35m-geneval`.

Published for this stage (V-GRPO, arXiv:2604.23380): 200 iterations, ten pairs per image. Our choice: four optimiser steps per
rollout under a ratio clip of 0.02, no soft clip of advantages, since GenEval's scores take few values, and prompts from
`vgrpo prompts`.
"""

from dataclasses import replace

from vgrpo.objectives import VGRPO
from vgrpo.recipes.sd35m import SD35M

SD35M_GENEVAL = replace(
    SD35M,
    prompts="geneval.jsonl",
    eval_prompts="geneval-held-out.jsonl",
    reward=("geneval",),
    num_iterations=200,
    objective=VGRPO(num_probes=10, soft_clip=None, ratio_clip=0.02),
    update=replace(SD35M.update, num_minibatches=4, micro_batch_size=2),
)
