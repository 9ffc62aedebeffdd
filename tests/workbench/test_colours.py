"""The colours of curves, as people see them who lack one kind of cones."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

STYLES = (Path(__file__).parents[2] / "vgrpo/workbench/static/base.css").read_text()
THEMES = {"light": 0, "dark": 1}
LEAST_DISTANCE = 15.0
"""Of two colours by CIE76, of which some 2.3 can just be told apart on large areas side by side. Curves are thin and apart."""
LEAST_CONTRAST = 3.0
"""WCAG 2.1, 1.4.11: of what must be seen to understand a graphic, beside what lies next to it."""
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
EYES = {  # Machado, Oliveira, Fernandes (2009), severity 1, on linear sRGB
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def colour(name, theme):
    """Linear sRGB of a colour of the page."""
    sheet = STYLES.split(':root[data-theme="dark"]')[THEMES[theme]]
    digits = re.search(rf"--{name}: #(\w+);", sheet).group(1)
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    part = np.array([int(digits[place : place + 2], 16) for place in (0, 2, 4)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(linear):
    """CIELAB, under the white of sRGB."""
    ratio = TO_XYZ @ linear / TO_XYZ.sum(1)
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def seen(linear, eyes):
    return lab(np.clip(np.array(EYES[eyes]) @ linear, 0, 1))


def test_the_arithmetic_on_colours_that_are_known():
    assert lab(np.ones(3)) == pytest.approx([100, 0, 0], abs=1e-6)
    assert lab(np.array([1.0, 0, 0])) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    for eyes in EYES:  # a grey stays what it is
        assert seen(np.full(3, 0.2), eyes) == pytest.approx(lab(np.full(3, 0.2)), abs=0.1)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", EYES)
def test_the_first_six_curves_can_be_told_apart(theme, eyes):
    names = [f"s{number}" for number in range(1, 7)]
    for one, other in itertools.combinations(names, 2):
        distance = np.linalg.norm(seen(colour(one, theme), eyes) - seen(colour(other, theme), eyes))
        assert distance >= LEAST_DISTANCE, f"--{one} and --{other} are {distance:.1f} apart"


@pytest.mark.parametrize("theme", THEMES)
def test_curves_stand_out_from_the_card(theme):
    background = TO_XYZ[1] @ colour("card", theme)
    for number in range(1, 8):
        light, dark = sorted((TO_XYZ[1] @ colour(f"s{number}", theme), background), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= LEAST_CONTRAST, f"--s{number}"
