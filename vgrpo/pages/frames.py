"""Pictures side by side in frames, with a tick or a cross where a verifier judged them."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

Verdicts = Sequence[float | None]
"""Of pictures in a row: 1 for right, 0 for wrong, None where nobody knows. Fewer than pictures leave the last ones without."""
GAP, FRAME = 6, "#8f96ab"  # pixels of white between frames
RIGHT, WRONG = "#0f7b54", "#c43d1b"  # told apart without seeing red and green, too: by shape and by lightness
FINE = 4  # times larger a mark is drawn, to be smooth when it is made small


def framed(pictures: list[Image.Image], verdicts: Verdicts = ()) -> Image.Image:
    """RGB pictures of one size, at least one, as a row on white. Marks stand below, where they hide nothing."""
    width, height = pictures[0].size
    known = [*verdicts, *[None] * len(pictures)][: len(pictures)]
    size = max(14, min(width, height) // 7)
    band = 0 if all(verdict is None for verdict in known) else size + GAP
    row = Image.new("RGB", (len(pictures) * (width + 2 + GAP) - GAP, height + 2 + band), "white")
    pen = ImageDraw.Draw(row)
    for place, (picture, verdict) in enumerate(zip(pictures, known, strict=True)):
        left = place * (width + 2 + GAP)
        pen.rectangle((left, 0, left + width + 1, height + 1), outline=FRAME)
        row.paste(picture, (left + 1, 1))
        if verdict is not None:
            mark = _mark(verdict >= 0.5, size)
            row.paste(mark, (left + (width + 2 - size) // 2, height + 2 + GAP // 2), mark)
    return row


def sized(picture: Image.Image, side: int, hard_pixels: bool) -> Image.Image:
    """At most `side` pixels; of pixel art as many as whole multiples allow."""
    times = side // max(picture.size)
    if hard_pixels and times > 1:
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((side, side))
    return small


def cut(strip: Image.Image, count: int) -> list[Image.Image]:
    """The pictures of a strip that was made without frames."""
    width = max(1, strip.width // count)
    return [strip.crop((place * width, 0, (place + 1) * width, strip.height)) for place in range(count)]


def _mark(right: bool, size: int) -> Image.Image:
    """A tick on green or a cross on red, on a disc of `size` pixels with transparency around it."""
    unit = size * FINE / 16
    disc = Image.new("RGBA", (size * FINE, size * FINE))
    pen = ImageDraw.Draw(disc)
    pen.ellipse((0, 0, 16 * unit - 1, 16 * unit - 1), RIGHT if right else WRONG)
    lines = [[(4.4, 8.4), (7, 11), (11.6, 5.4)]] if right else [[(5.2, 5.2), (10.8, 10.8)], [(10.8, 5.2), (5.2, 10.8)]]
    for line in lines:
        pen.line([(x * unit, y * unit) for x, y in line], "white", max(1, round(2 * unit)), "curve")
    return disc.resize((size, size), Image.Resampling.LANCZOS)
