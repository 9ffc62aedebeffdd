"""Stable Diffusion 3.5 Medium in five stages: `vgrpo train sd35m-multi`.

Published (V-GRPO, arXiv:2604.23380): the stages, their order, rewards and iterations, and what the files of the single stages
name as published. Our choice: the rest of those files, equal weights for the three preference rewards, and a fresh optimiser
per stage.
"""

from dataclasses import replace

from vgrpo.recipes.sd35m_geneval import SD35M_GENEVAL
from vgrpo.recipes.sd35m_ocr import SD35M_OCR
from vgrpo.recipes.sd35m_preference import preference
from vgrpo.training.settings.stages import Curriculum, Stage

PREFERENCE = preference("hpsv2", "pickscore", "clipscore")
SD35M_MULTI = Curriculum(
    stages=(
        Stage("preference", PREFERENCE),
        Stage("geneval", SD35M_GENEVAL),
        Stage("preference", PREFERENCE),
        Stage("geneval", replace(SD35M_GENEVAL, num_iterations=50)),
        Stage("ocr", replace(SD35M_OCR, num_iterations=30)),
    )
)
