"""Pictures for a page: decoded, made small and encoded anew, so that a page holds pixels and nothing else of a file."""

import base64
import io

from PIL import Image

from vgrpo.pages.frames import Verdicts, framed, sized
from vgrpo.pages.page import shown

FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 64_000_000


def decode(data: bytes) -> Image.Image:
    """An RGB picture of a file's bytes. Raises ValueError for anything but a PNG or JPEG of a size that is meant to be seen."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
        return picture.convert("RGB")
    except Exception as error:  # a stranger's bytes in another library's code: it may stumble over anything
        raise ValueError("not a PNG or JPEG picture that can be read") from error


def thumbnail(pictures: list[Image.Image], text: str, side: int, *, verdicts: Verdicts = (), hard_pixels: bool = False) -> str:
    """Pictures of one size in a row, framed, as an element. Those of more than `side` pixels are shrunk and compressed, so that
    the page stays small; smaller ones stay as they are, and with `hard_pixels` are enlarged without smoothing."""
    large = max(pictures[0].size) > side
    row = framed([sized(picture, side, hard_pixels) for picture in pictures], verdicts)
    data = io.BytesIO()
    row.save(data, "JPEG" if large else "PNG", quality=88, optimize=True)
    encoded, kind = base64.b64encode(data.getvalue()).decode(), "jpeg" if large else "png"
    return f"<img alt='{shown(text + _spoken(verdicts))}' src='data:image/{kind};base64,{encoded}'>"


def _spoken(verdicts: Verdicts) -> str:
    """For those who hear the page."""
    words = ["not judged" if verdict is None else "right" if verdict >= 0.5 else "wrong" for verdict in verdicts]
    return f" ({', '.join(words)})" if words else ""
