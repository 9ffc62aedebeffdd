"""Pictures for a page: decoded, made small and encoded anew, so that a page holds pixels and nothing else of a file."""

import base64
import io

from PIL import Image

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


def thumbnail(pictures: list[Image.Image], text: str, side: int, *, hard_pixels: bool = False) -> str:
    """Pictures side by side as an element. Those of more than `side` pixels are shrunk and compressed, so that the page stays
    small; smaller ones stay as they are, and with `hard_pixels` are enlarged without smoothing."""
    large = max(pictures[0].size) > side
    small = [picture.copy() for picture in pictures]
    for picture in small:
        picture.thumbnail((side, side))
    width, height = small[0].size
    strip = Image.new("RGB", (width * len(small), height))
    for place, picture in enumerate(small):
        strip.paste(picture, (place * width, 0))
    data = io.BytesIO()
    strip.save(data, "JPEG" if large else "PNG", quality=88)
    encoded, kind = base64.b64encode(data.getvalue()).decode(), "jpeg" if large else "png"
    style = " class=hard" if hard_pixels and not large else ""
    return f"<img{style} alt='{shown(text)}' src='data:image/{kind};base64,{encoded}'>"
