"""How well an image compresses (DDPO, arXiv:2305.13301): minus, or plus, its kilobytes as a JPEG of quality 95."""

from io import BytesIO

import torch
from torch import Tensor

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt


def jpeg_incompressibility(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Kilobytes (1000 bytes) of each image [B, 3, H, W]: [B]."""
    return torch.tensor([_kilobytes(image) for image in images])


def jpeg_compressibility(images: Tensor, prompts: list[Prompt]) -> Tensor:
    """Minus the kilobytes: [B]."""
    return -jpeg_incompressibility(images, prompts)


def _kilobytes(image: Tensor) -> float:
    buffer = BytesIO()
    to_pil(image).save(buffer, format="JPEG", quality=95)
    return buffer.tell() / 1000
