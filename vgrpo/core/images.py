"""Tensors to pictures, and pictures to tensors."""

from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor


def stills(images: Tensor) -> Tensor:
    """[B, 3, H, W] of images, or of the final frames of videos [B, F, 3, H, W]."""
    return images[:, -1] if images.dim() == 5 else images


def to_pil(image: Tensor) -> Image.Image:
    """[3, H, W] in [0, 1] to an 8-bit picture."""
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def from_pil(picture: Image.Image) -> Tensor:
    """A picture as [3, H, W] in [0, 1]."""
    pixels = bytearray(picture.convert("RGB").tobytes())
    shape = (picture.height, picture.width, 3)
    return torch.frombuffer(pixels, dtype=torch.uint8).view(shape).permute(2, 0, 1).float() / 255


def open_picture(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """A picture upright and in RGB; with a `size` (height, width) scaled until it covers that, and cut around its middle.

    Raises ValueError for a file that is no picture, FileNotFoundError if there is none.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise ValueError(f"{path}: not a picture that can be read ({error}); take it out or save it again") from error
    if size is None or (picture.height, picture.width) == size:
        return picture
    return ImageOps.fit(picture, (size[1], size[0]), Image.Resampling.LANCZOS)
