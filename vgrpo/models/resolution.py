"""The size of pictures as people write it: 1024 for a square, WIDTHxHEIGHT for all others."""

import re

from vgrpo.support.checks import require

Resolution = int | str
"""Pixels per side, or WIDTHxHEIGHT."""
MOST = 16_384


def sides_of(resolution: Resolution) -> tuple[int, int]:
    """Height and width. Raises ValueError for what is no size, and for one that no model has."""
    if isinstance(resolution, int):
        sides = resolution, resolution
    else:
        found = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", resolution)
        require(found is not None, f"resolution={resolution[:80]}: give pixels per side, as 1024, or WIDTHxHEIGHT, as 832x1216")
        assert found is not None
        sides = int(found[2]), int(found[1])
    require(min(sides) >= 1, f"resolution={resolution}: must be at least 1; None is the model's own")
    require(max(sides) <= MOST, f"resolution={resolution}: must lie in 1 to {MOST:,}")
    return sides
