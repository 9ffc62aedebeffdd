"""Pictures in a row with what a verifier says of them, as cards, galleries and trackers show them."""

from PIL import Image, ImageColor

from vgrpo.pages.frames import FRAME, RIGHT, WRONG, framed, sized


def test_pictures_are_framed_and_marked_by_what_the_verifier_says():
    """White between frames; below green for right, red for wrong, nothing where nobody knows."""
    side = 256
    row = framed([Image.new("RGB", (side, side), "blue")] * 4, [0, 1, None])
    lefts = [place * (side + 2 + 6) for place in range(4)]
    assert row.size == (lefts[3] + side + 2, side + 2 + side // 7 + 6)
    assert all(row.getpixel((left - 3, side // 2)) == (255, 255, 255) for left in lefts[1:])
    assert all(row.getpixel((left, side // 2)) == ImageColor.getrgb(FRAME) for left in lefts)
    assert all(row.getpixel((left + side // 2, side // 2)) == (0, 0, 255) for left in lefts)
    marks = []
    for left in lefts:
        colors = {color for _, color in row.crop((left, side + 2, left + side, row.height)).getcolors(10**6)}
        marks.append([color in colors for color in map(ImageColor.getrgb, (RIGHT, WRONG))])
    assert marks == [[False, True], [True, False], [False, False], [False, False]]
    assert framed([Image.new("RGB", (side, side))] * 2).size == (2 * (side + 2) + 6, side + 2)


def test_pixel_art_is_enlarged_by_whole_multiples():
    picture = Image.new("RGB", (60, 60))
    assert sized(picture, 256, True).size == (240, 240)
    assert sized(picture, 256, False).size == (60, 60)
    assert sized(Image.new("RGB", (1024, 512)), 256, True).size == (256, 128)
