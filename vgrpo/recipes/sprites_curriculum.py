"""The five stages of `sd35m-multi` on the sprites world, in minutes: `vgrpo train sprites-curriculum`.

Preference, verifier, preference, verifier, OCR, as published for Stable Diffusion 3.5 Medium (V-GRPO, arXiv:2604.23380). The
preference is a learned model that can be fooled (`vgrpo/worlds/sprites/preference.py`), so the verifier watches; the words are
read by PP-OCR's recogniser, and Tesseract, which no stage trains on, watches.
"""

from dataclasses import replace

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.recipes.vgrpo_fast import VGRPO_FAST
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum, Stage

SHARED = replace(
    VGRPO_FAST,
    rollout=replace(VGRPO_FAST.rollout, num_prompts=32),
    update=replace(VGRPO_FAST.update, lr_schedule="linear"),
    eval=EvalConfig(num_prompts=140, num_images=2),
)
PREFERENCE = replace(SHARED, reward=("sprites_preference",), monitor=("sprites",))
VERIFIER = replace(SHARED, reward=("sprites",), monitor=("sprites_strict", "sprites_preference"))
OCR = replace(SHARED, prompts="sprites:text", reward=("ocr_ctc",), monitor=("ocr_tesseract",))


def gentle(config: Config, num_iterations: int) -> Config:
    """A stage that goes on from a good adapter: a fresh AdamW at the full learning rate would first undo some of it."""
    return replace(config, num_iterations=num_iterations, update=replace(config.update, lr=5e-4, num_warmup_steps=5))


SPRITES_CURRICULUM = Curriculum(
    stages=(
        Stage("preference", replace(PREFERENCE, num_iterations=40)),
        Stage("verifier", replace(VERIFIER, num_iterations=60)),
        Stage("preference", gentle(PREFERENCE, 20)),
        Stage("verifier", gentle(VERIFIER, 40)),
        Stage("ocr", gentle(OCR, 30)),
    )
)
