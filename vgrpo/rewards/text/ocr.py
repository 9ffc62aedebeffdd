"""How well the text in a picture is spelt: PP-OCR's reading against the quoted words in the prompt.

The score of Flow-GRPO and V-GRPO (arXiv:2505.05470, arXiv:2604.23380): 1 - min(d, n) / n with d the edit distance and n the
length of the quoted text, spaces and case ignored; 1 if the reading holds the text, whatever stands beside it. Engine and
weights come with the package rapidocr (33 MB). Small pictures are enlarged first, as the engine was not made for 64 pixels.
"""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.support.spelling import similarity

DOUBLE = re.compile(
    '"([^"]+)"|[\u201c\u201d\u201e]([^\u201c\u201d\u201e]+)[\u201c\u201d]|\xab([^\xbb]+)\xbb|\u300c([^\u300d]+)\u300d|\u300e([^\u300f]+)\u300f'
)
SINGLE = re.compile(r"(?<!\w)'([^']+(?:'(?=\w)[^']+)*)'(?!\w)|(?<!\w)\u2018([^\u2018]+?)\u2019(?!\w)")
SMALLEST = 384  # pixels per side that the engine reads well
MOST_READERS = 16  # engines of some hundred MB each
ENGINE = {
    "Global.log_level": "error",
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "Global.use_cls": False,
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
}
"""One core. As in PaddleOCR, text is looked for at the picture's own size, made smaller if it is above 960 pixels, and is not
turned over. RapidOCR's own defaults enlarge the shorter side to 736 pixels, which takes twice as long."""
MARGIN = 32  # pixels around the picture; letters at the very edge are missed


class Reader(ABC):
    """Images [B, 3, H, W] and prompts to scores [B] in [0, 1]; NaN for a prompt without quoted text."""

    each_alone: ClassVar[bool] = True
    """A reading does not depend on the other pictures of a call."""

    @abstractmethod
    def read(self, image: Tensor) -> str:
        """All text in a picture [3, H, W], line after line."""

    def judges(self, prompt: Prompt) -> bool:
        """Whether the prompt says what to write."""
        return bool(quoted(prompt.text))

    def read_all(self, images: list[Tensor]) -> list[str]:
        """`read` of each; an engine that may work on several at once does."""
        return [self.read(image) for image in images]

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        asked = [targets(prompt.text) for prompt in prompts]
        readings = iter(self.read_all([image for image, some in zip(images, asked, strict=True) if some]))
        return torch.tensor([spelling(next(readings), *some) if some else float("nan") for some in asked])


class Ocr(Reader):
    """PP-OCR's reading. A picture takes a core 0.2 s, so each of torch's threads has an engine of its own."""

    __name__ = "ocr"

    def __init__(self) -> None:
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ValueError('reward ocr: the engine is not installed; pip install "vgrpo[ocr]"') from error
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self.make: Callable[[], Any] = lambda: RapidOCR(params=ENGINE)
        self.idle = [self.make()]
        """Engines that are not reading now."""
        self.readers = ThreadPoolExecutor(min(MOST_READERS, torch.get_num_threads()))

    def read(self, image: Tensor) -> str:
        try:
            engine = self.idle.pop()
        except IndexError:
            engine = self.make()
        try:
            result = engine(np.asarray(enlarged(to_pil(image)))[:, :, ::-1])  # the engine takes BGR
        finally:
            self.idle.append(engine)
        return "".join(result.txts or ())

    def read_all(self, images: list[Tensor]) -> list[str]:
        return list(self.readers.map(self.read, images))


def ocr(source: str | None, device: str) -> Ocr:
    if source is not None:
        raise ValueError(f"reward ocr={source}: the engine brings its own weights; write --reward ocr")
    return Ocr()


def targets(text: str) -> list[str]:
    """All that stands in double quotes of any kind, or else in single ones, without spaces, in lower case. An apostrophe within
    a word is no quotation mark."""
    for pattern in (DOUBLE, SINGLE):
        found = [_plain("".join(match.groups(""))) for match in pattern.finditer(text)]
        if any(found):
            return [target for target in found if target]
    return []


def quoted(text: str) -> str:
    """All targets as one; empty if there is none."""
    return "".join(targets(text))


def spelling(read: str, *targets: str) -> float:
    """Score of a reading for what `targets` returns. Of several, those that the reading holds count as right; what is left of
    the reading is compared with the others, and each counts by its length."""
    read, missed = _plain(read), list[str]()
    for target in sorted(targets, key=len, reverse=True):  # the short one may be a part of the long one
        if target in read:
            read = read.replace(target, "", 1)
        else:
            missed.append(target)
    rest = "".join(target for target in targets if target in missed)
    num_letters = sum(map(len, targets))
    return (num_letters - len(rest) + len(rest) * similarity(read, rest)) / num_letters if rest else 1.0


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
