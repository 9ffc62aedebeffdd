"""Rewards: a reward is a function (images [B, 3, H, W] in [0, 1], prompts) -> [B]. Named ones live here, one file each."""

from collections.abc import Callable

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.downloads import loading_on
from vgrpo.support.dotted import load_dotted
from vgrpo.support.spelling import hint

Reward = Callable[[Tensor, list[Prompt]], Tensor]
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


class RewardError(RuntimeError):
    """A reward failed on a whole batch: the run cannot go on."""


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
    function = load_dotted(NAMED.get(name, name), "reward")
    if not callable(function):
        raise ValueError(f"reward {name!r} is a {type(function).__name__}; it must be a function (images, prompts) -> [B]")
    return function


def score_images(reward: Reward, images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Rewards [B], NaN where the reward failed. If the batch raises, each image is tried alone.

    Raises RewardError if every image failed, or if the answer is not one number per image.
    """
    try:
        values = _call(reward, images, prompts)
    except RewardError:
        raise
    except Exception:  # a reward is the user's code: whatever it raises counts as failed, never as 0
        values = torch.full((len(images),), torch.nan)
        for index in range(len(images) if len(images) > 1 else 0):
            try:
                values[index] = _call(reward, images[index : index + 1], prompts[index : index + 1])[0]
            except Exception as single_error:
                error = single_error
        if values.isnan().all():
            raise RewardError(f"the reward failed on every image, last with {type(error).__name__}: {error}") from error
    if values.isnan().all():
        raise RewardError("the reward is NaN or infinite on every image")
    return values


def _call(reward: Reward, images: Tensor, prompts: list[Prompt]) -> Tensor:
    values = torch.as_tensor(reward(images, prompts)).detach().float().cpu()
    if values.shape != (len(images),):
        raise RewardError(
            f"the reward returned shape {list(values.shape)} for {len(images)} images; it must return [{len(images)}], "
            "one number per image"
        )
    return torch.where(values.isfinite(), values, torch.nan)
