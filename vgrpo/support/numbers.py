"""Numbers as people type them."""

import math
import re


def plain_number(text: str) -> float | int | None:
    """Digits as they are on a keyboard: Python's own `int` and `float` also take those of other scripts, and underscores.

    None for what is no number; infinite for a whole number of 30 digits or more.
    """
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text) if len(text) < 30 else math.inf
    if text.isascii() and "_" not in text and text == text.strip():
        try:
            return float(text)
        except ValueError:
            return None
    return None
