"""How well the text in a picture is spelt: PP-OCR's reading against the words in double quotes in the prompt.

The score of Flow-GRPO and V-GRPO (arXiv:2505.05470, arXiv:2604.23380): 1 - min(d, n) / n with d the edit distance and n the
length of the quoted text, spaces and case ignored; 1 if the reading holds the text. Engine and weights come with the package
rapidocr (33 MB). Small pictures are enlarged first, as the engine was not made for 64 pixels.
"""

import logging
import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.support.spelling import similarity

SMALLEST = 384  # pixels per side that the engine reads well
MARGIN = 32  # pixels around the picture; letters at the very edge are missed


class Reader(ABC):
    """Images [B, 3, H, W] and prompts to scores [B] in [0, 1]; NaN for a prompt without quoted text."""

    @abstractmethod
    def read(self, image: Tensor) -> str:
        """All text in a picture [3, H, W], line after line."""

    def judges(self, prompt: Prompt) -> bool:
        """Whether the prompt says what to write."""
        return bool(quoted(prompt.text))

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        scores = []
        for image, prompt in zip(images, prompts, strict=True):
            target = quoted(prompt.text)
            scores.append(spelling(self.read(image), target) if target else float("nan"))
        return torch.tensor(scores)


class Ocr(Reader):
    """PP-OCR's reading."""

    __name__ = "ocr"

    def __init__(self) -> None:
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ValueError('reward ocr: the engine is not installed; pip install "vgrpo[ocr]"') from error
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self.engine: Any = RapidOCR(params={"Global.log_level": "error"})

    def read(self, image: Tensor) -> str:
        picture = enlarged(to_pil(image))
        result = self.engine(np.asarray(picture)[:, :, ::-1])  # the engine takes BGR
        return "".join(result.txts or ())


def ocr(source: str | None, device: str) -> Ocr:
    if source is not None:
        raise ValueError(f"reward ocr={source}: the engine brings its own weights; write --reward ocr")
    return Ocr()


def quoted(text: str) -> str:
    """What stands in double quotes, without spaces, in lower case; empty if nothing does."""
    found = re.search(r'"([^"]+)"', text)
    return _plain(found.group(1)) if found else ""


def spelling(read: str, target: str) -> float:
    """Score of a reading for a target as `quoted` returns it."""
    read = _plain(read)
    if target in read:
        return 1.0
    return similarity(read, target)


def _plain(text: str) -> str:
    return "".join(text.split()).lower()


def enlarged(picture: Image.Image) -> Image.Image:
    """By a whole factor to at least SMALLEST, with a margin in the corner's colour."""
    factor = -(-SMALLEST // min(picture.size))
    if factor == 1:
        return picture
    width, height = (side * factor for side in picture.size)
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), picture.getpixel((0, 0)))
    sheet.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (MARGIN, MARGIN))
    return sheet
