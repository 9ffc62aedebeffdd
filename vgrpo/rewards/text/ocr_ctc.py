"""How likely the quoted text is to a text recogniser, also where its best reading is empty: a dense relative of `ocr`.

The picture is taken for one line of text. PP-OCR's recogniser, which comes with the package rapidocr, gives each column a
distribution over characters; CTC (Graves et al. 2006) adds up the ways to read the text off them. With p the text's
probability and n its length, the score is exp(log p / n), which lies in (0, 1]. Case and spaces are ignored, as in `ocr`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vgrpo.core.types import Prompt
from vgrpo.rewards.text.ocr import quoted

HEIGHT = 48  # pixels of a line that the recogniser was trained on
STRIDE = 8  # pixels of width per column of its answer
BATCH = 32  # images per call; the answer holds 18710 numbers per column


class OcrCtc:
    """Images [B, 3, H, W] and prompts to scores [B] in (0, 1]; NaN for a prompt without quoted text, or one it cannot spell."""

    __name__ = "ocr_ctc"
    each_alone = True

    def __init__(self) -> None:
        try:
            import rapidocr
            from onnxruntime import InferenceSession, SessionOptions
        except ImportError as error:
            raise ValueError('reward ocr_ctc: the recogniser is not installed; pip install "vgrpo[ocr]"') from error
        folder = Path(rapidocr.__file__).parent / "models"
        files = sorted(folder.glob("*rec*.onnx"))
        if not files:
            raise FileNotFoundError(
                f"reward ocr_ctc: no recogniser (21 MB) in {folder}; pip install --force-reinstall --no-deps rapidocr"
            )
        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session: Any = InferenceSession(files[-1], options, providers=["CPUExecutionProvider"])
        characters = self.session.get_modelmeta().custom_metadata_map["character"].splitlines()
        self.classes = variants(["", *characters, " "])  # class 0 is CTC's blank, the last a space

    def judges(self, prompt: Prompt) -> bool:
        """Whether the prompt says what to write, in characters that the recogniser knows."""
        target = quoted(prompt.text)
        return bool(target) and all(character in self.classes for character in target)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        targets = [quoted(prompt.text) for prompt in prompts]
        scores = torch.full((len(images),), torch.nan)
        widths: dict[int, list[int]] = {}  # one call per width; an image's width does not depend on its neighbours
        for index, target in enumerate(targets):
            if self.judges(prompts[index]):
                widths.setdefault(line_width(images.shape[-2:], target), []).append(index)
        for width, same in widths.items():
            for rows in torch.tensor(same).split(BATCH):
                probabilities = self.probabilities(images[rows], width)
                for row, columns in zip(rows.tolist(), probabilities, strict=True):
                    scores[row] = likelihood(self.folded(columns, targets[row]), targets[row])
        return scores

    def probabilities(self, images: Tensor, width: int) -> Tensor:
        """The recogniser's distributions [B, width / 8, classes] for images as lines of that width."""
        lines = functional.interpolate(images.float().cpu(), size=(HEIGHT, width), mode="bicubic", antialias=True)
        lines = 2 * lines.clamp(0, 1).flip(1) - 1  # it takes BGR
        name = self.session.get_inputs()[0].name
        return torch.from_numpy(self.session.run(None, {name: lines.numpy()})[0])

    def folded(self, columns: Tensor, target: str) -> Tensor:
        """Probabilities [T, 1 + K] of nothing, and of the target's K distinct characters in either case, from [T, classes]."""
        kinds = [self.classes[""] + self.classes[" "], *(self.classes[character] for character in alphabet(target))]
        return torch.stack([columns[:, kind].sum(-1) for kind in kinds], -1)


def variants(characters: list[str]) -> dict[str, list[int]]:
    """The classes that count as a character once case is ignored."""
    classes: dict[str, list[int]] = {}
    for index, character in enumerate(characters):
        classes.setdefault(character.lower(), []).append(index)
    return classes


def alphabet(target: str) -> list[str]:
    return sorted(set(target))


def line_width(size: tuple[int, ...], target: str) -> int:
    """Width of a picture (height, width) as a line: in proportion, or wider, for two columns per character of the target."""
    height, width = size
    columns = max(round(HEIGHT * width / height / STRIDE), 2 * len(target))
    return STRIDE * columns


def likelihood(columns: Tensor, target: str) -> float:
    """exp(log p / n) of a target under CTC, from probabilities [T, 1 + K] of nothing and of `alphabet(target)`."""
    indices = torch.tensor([[1 + alphabet(target).index(character) for character in target]])
    log_columns = columns.double().clamp(min=1e-30).log()[:, None]
    sizes = torch.tensor([len(columns)]), torch.tensor([len(target)])
    loss = functional.ctc_loss(log_columns, indices, *sizes, reduction="sum")
    return float((-loss / len(target)).exp())


def ocr_ctc(source: str | None, device: str) -> OcrCtc:
    if source is not None:
        raise ValueError(f"reward ocr_ctc={source}: the recogniser comes with rapidocr; write --reward ocr_ctc")
    return OcrCtc()
