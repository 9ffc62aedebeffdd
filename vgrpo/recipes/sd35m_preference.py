"""Stable Diffusion 3.5 Medium on one reward of any prompt: `vgrpo train sd35m-pickscore`, or another of NAMES.

Prompts are yours, one a line, in preference.txt; a part of them is held out. The settings are those
published for stages on preference rewards (V-GRPO, arXiv:2604.23380): 150 iterations, four pairs per image, one optimiser
step per rollout, advantages softly clipped at 3. A reward alone is our choice, the published stages have three; and so are the
monitors, PickScore for the others and CLIPScore for PickScore, which show when a reward is gained at the cost of the picture.
"""

from dataclasses import replace

from vgrpo.recipes.sd35m import SD35M
from vgrpo.training.settings.config import Config

NAMES = {
    "pickscore": "pickscore",
    "hpsv2": "hpsv2",
    "clipscore": "clipscore",
    "imagereward": "imagereward",
    "aesthetic": "aesthetic",
    "unifiedreward": "unifiedreward=http://localhost:8000",
    "jpeg-compressibility": "jpeg_compressibility",
    "jpeg-incompressibility": "jpeg_incompressibility",
}


def preference(*reward: str, monitor: tuple[str, ...] = ()) -> Config:
    return replace(
        SD35M,
        prompts="preference.txt",
        reward=reward,
        monitor=monitor,
        num_iterations=150,
    )


SD35M_SINGLE = {
    f"sd35m-{name}": preference(reward, monitor=("clipscore" if name == "pickscore" else "pickscore",))
    for name, reward in NAMES.items()
}
