"""Settings are checked when they are made: the value, the rule, and what to do instead."""

import dataclasses
import math
from typing import Any

LARGEST = 2**63 - 1
"""Of a whole number, either way: what a tensor and a file of settings can hold."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_finite(settings: Any, section: str = "") -> None:
    """Raise ValueError if a number of a settings object is infinite, not a number, or too large for 64 bits.

    NaN passes every comparison such as `lr <= 0`, so each settings class asks for this beside its own rules. `section` is
    the prefix under which a user knows the settings, such as "update.".
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            where = f"{section}{field.name}"
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{where}={number}: must be a finite number")
            if isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"{where}: a whole number must be at most 2^63 - 1 in size")
