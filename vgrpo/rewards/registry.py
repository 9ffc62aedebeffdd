"""Rewards: a reward is a function (images [B, 3, H, W] in [0, 1], prompts) -> [B]. Named ones live here, one file each."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import CallFailed, NoAnswer, call, name_of, reason_of
from vgrpo.rewards.calls import Reward as Reward
from vgrpo.rewards.calls import RewardError as RewardError
from vgrpo.rewards.downloads import loading_on
from vgrpo.support.dotted import load_dotted
from vgrpo.support.spelling import hint

NAMED = {
    "sprites": "vgrpo.rewards.sprites:sprites",
    "sprites_strict": "vgrpo.rewards.sprites:sprites_strict",
    "jpeg_compressibility": "vgrpo.rewards.jpeg:jpeg_compressibility",
    "jpeg_incompressibility": "vgrpo.rewards.jpeg:jpeg_incompressibility",
}
MODELS = {
    "sprites_preference": "vgrpo.rewards.sprites:sprites_preference",
    "clipscore": "vgrpo.rewards.preference.clip:clipscore",
    "pickscore": "vgrpo.rewards.preference.clip:pickscore",
    "aesthetic": "vgrpo.rewards.preference.aesthetic:aesthetic",
    "hpsv2": "vgrpo.rewards.preference.hpsv2:hpsv2",
    "imagereward": "vgrpo.rewards.preference.imagereward:imagereward",
    "geneval": "vgrpo.rewards.geneval.detector:geneval",
    "geneval_strict": "vgrpo.rewards.geneval.detector:geneval_strict",
    "judge": "vgrpo.rewards.served.judge:judge",
    "unifiedreward": "vgrpo.rewards.served.unifiedreward:unifiedreward",
    "ocr": "vgrpo.rewards.text.ocr:ocr",
    "ocr_tesseract": "vgrpo.rewards.text.tesseract:tesseract",
    "ocr_ctc": "vgrpo.rewards.text.ocr_ctc:ocr_ctc",
    "remote": "vgrpo.rewards.served.remote:remote",
}
"""Rewards with something behind them: functions from a hub id, folder or file (None is the published one) to the reward."""


MOST_PARTS = 32
"""If a reward fails on each of so many parts of a batch, it is the reward that is broken, and not an image."""


def load_reward(name: str, device: str = "auto") -> Reward:
    """A reward by name, a learned one with its weights' folder as `name=FOLDER`, or any function as `module:function`, looked
    up in the current folder too. `device` is where the models of named ones compute.

    Raises ValueError, saying what is known or what is missing; FileNotFoundError for weights that are not there.
    """
    known, _, source = name.partition("=")
    if known in MODELS:
        with loading_on(device):
            reward: Reward = load_dotted(MODELS[known], "reward")(source or None)
        return reward
    if ":" not in name and name not in NAMED:
        raise ValueError(f"unknown reward {name!r}: {hint(known, [*NAMED, *MODELS])} Your own is given as my_file:my_reward.")
    try:
        function = load_dotted(NAMED.get(name, name), "reward")
    except (SystemExit, GeneratorExit) as error:  # of a script's last line: the run is not done
        raise ValueError(f"reward {name!r}: its file ends the process when imported ({reason_of(error)})") from error
    if not callable(function):
        raise ValueError(f"reward {name!r} is a {type(function).__name__}; it must be a function (images, prompts) -> [B]")
    return function


def score_images(
    reward: Reward,
    images: Tensor,
    prompts: list[Prompt],
    *,
    timeout: float | None = None,
    notice: Callable[[str], None] = warnings.warn,
) -> Tensor:
    """Scores [B] of images [B, 3, H, W], fp32 on the CPU; NaN where the reward failed or gave no finite number.

    A batch on which the reward raises an error is halved, and halved again, until the images that it fails on are alone: one
    bad image of B costs 2 log2(B) calls more. `timeout` is the seconds that a call may take; a part that takes longer has
    failed, and is not tried again. `notice` is told why, if only some images failed.

    Raises RewardError if every image failed, or if the answer is not one real number per image.
    """
    values = torch.full((len(images),), torch.nan)
    parts, reason = [range(len(images))], ""
    while parts:
        failed = list[range]()
        for part in parts:
            rows = slice(part.start, part.stop)
            try:
                values[rows] = call(reward, images[rows], prompts[rows], timeout)
            except NoAnswer as error:
                reason = str(error)
            except CallFailed as error:
                reason = str(error)
                failed.append(part)
        if len(failed) == len(parts) >= MOST_PARTS:
            break
        parts = [half for part in failed if len(part) > 1 for half in _halves(part)]
    if values.isnan().all():
        if reason:
            raise RewardError(f"the reward failed on every image, last with {reason}")
        raise RewardError("the reward is NaN or infinite on every image")
    if reason:
        notice(f"reward {name_of(reward)} failed on some images, which get no score: {reason}")
    return values


def _halves(part: range) -> tuple[range, range]:
    middle = (part.start + part.stop) // 2
    return range(part.start, middle), range(middle, part.stop)
