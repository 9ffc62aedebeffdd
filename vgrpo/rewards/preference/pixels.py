"""What a reward's network sees of images, made of several at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import to_pil

THREADS = 8


def pixel_values(processor: Any, images: Tensor, picture: Callable[[Tensor], Image.Image] = to_pil) -> Tensor:
    """A transformers processor's pixels [B, 3, h, w] of images [B, 3, H, W], on the CPU. Each image is prepared by itself, so
    that threads share the work: scaling lets other threads run, and one core would keep a GPU waiting."""

    def prepared(image: Tensor) -> Tensor:
        pixels: Tensor = processor(images=[picture(image)], return_tensors="pt")["pixel_values"]
        return pixels

    with ThreadPoolExecutor(THREADS) as pool:
        return torch.cat(list(pool.map(prepared, images)))
