"""Rewards by name."""

from vgrpo.models.precision import device_of
from vgrpo.rewards.base import Loader, Reward
from vgrpo.support.dotted import load_dotted
from vgrpo.support.secrets import in_one_line
from vgrpo.support.spelling import hint

NAMED = {
    "sprites": "vgrpo.rewards.sprites:sprites",
    "sprites_strict": "vgrpo.rewards.sprites:sprites_strict",
    "sprites_clean": "vgrpo.rewards.sprites:sprites_clean",
    "jpeg_compressibility": "vgrpo.rewards.jpeg:jpeg_compressibility",
    "jpeg_incompressibility": "vgrpo.rewards.jpeg:jpeg_incompressibility",
}
MODELS = {
    "sprites_preference": "vgrpo.rewards.sprites:sprites_preference",
    "diversity": "vgrpo.rewards.preference.diversity:diversity",
    "clipscore": "vgrpo.rewards.preference.clip:clipscore",
    "pickscore": "vgrpo.rewards.preference.clip:pickscore",
    "aesthetic": "vgrpo.rewards.preference.aesthetic:aesthetic",
    "hpsv2": "vgrpo.rewards.preference.hpsv2:hpsv2",
    "imagereward": "vgrpo.rewards.preference.imagereward:imagereward",
    "hpsv3": "vgrpo.rewards.vlm.hpsv3:hpsv3",
    "videoreward": "vgrpo.rewards.vlm.videoreward:videoreward",
    "geneval": "vgrpo.rewards.geneval.detector:geneval",
    "geneval_strict": "vgrpo.rewards.geneval.detector:geneval_strict",
    "judge": "vgrpo.rewards.served.judge:judge",
    "local_judge": "vgrpo.rewards.vlm.local_judge:local_judge",
    "unifiedreward": "vgrpo.rewards.served.unifiedreward:unifiedreward",
    "ocr": "vgrpo.rewards.text.ocr:ocr",
    "ocr_tesseract": "vgrpo.rewards.text.tesseract:tesseract",
    "ocr_ctc": "vgrpo.rewards.text.ocr_ctc:ocr_ctc",
    "remote": "vgrpo.rewards.served.remote:remote",
}
"""Rewards with something behind them, by their loaders. All are written as text, so that naming one loads no other."""

CLIENTS = ("remote", "judge", "unifiedreward")
"""Of these, those that ask processes of somebody else."""
ON_CPU = (*CLIENTS, "ocr", "ocr_tesseract", "ocr_ctc")
"""Of these, those that use no GPU."""
PUBLISHED_SCALES = {"pickscore": 26.0}
"""What papers multiply a reward's scores with."""


def load_reward(name: str, device: str = "auto") -> Reward:
    """A reward by name, a learned one with its weights' folder as `name=FOLDER`, or any function as `module:function`, looked
    up in the current folder too. `device` is where the models of named ones compute.

    Raises ValueError, saying what is known or what is missing, or for a device that is not there; FileNotFoundError for weights
    that are not.
    """
    device_of(device, "reward_device")
    known, _, source = name.partition("=")
    if known in MODELS:
        loader: Loader = load_dotted(MODELS[known], "reward")
        return loader(source or None, device)
    if ":" not in name and name not in NAMED:
        raise ValueError(f"unknown reward {name!r}: {hint(known, [*NAMED, *MODELS])} Your own is given as my_file:my_reward.")
    try:
        function = load_dotted(NAMED.get(name, name), "reward")
    except (SystemExit, GeneratorExit) as error:  # of a script's last line: the run is not done
        raise ValueError(f"reward {name!r}: its file ends the process when imported ({in_one_line(error)})") from error
    if not callable(function):
        raise ValueError(f"reward {name!r} is a {type(function).__name__}; it must be a function (images, prompts) -> [B]")
    return function


def is_client(reward: str) -> bool:
    """Whether a reward only asks other processes."""
    return reward.partition("=")[0] in CLIENTS


def wants_gpu(reward: str) -> bool:
    """Whether a named reward has networks that a GPU helps."""
    known = reward.partition("=")[0]
    return known in MODELS and known not in ON_CPU


def is_own(reward: str) -> bool:
    """Whether a reward is a user's function, of which nothing is known."""
    return reward.partition("=")[0] not in {*NAMED, *MODELS}
