"""Settings are checked when they are made: the value, the rule, and what to do instead."""

import dataclasses
import math
from typing import Any

LARGEST = 2**63 - 1
"""Of a whole number, either way: what a tensor and a file of settings can hold."""
MOST = 2**31 - 1
"""Of anything that is counted."""
HUGE, TINY = 1e12, 1e-30
"""Of the size of a number that is not 0: beyond them fp32, in which a network computes, overflows or rounds to 0."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_finite(settings: Any, section: str = "") -> None:
    """Raise ValueError for a number of a settings object with which nothing can be computed: not finite, huge or tiny.

    NaN passes every comparison such as `lr <= 0`, so each settings class asks for this beside its own rules. `section` is
    the prefix under which a user knows the settings, such as "update.".
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            where = f"{section}{field.name}"
            if isinstance(number, float):
                require(math.isfinite(number), f"{where}={number}: must be a finite number")
                fits = number == 0 or TINY <= abs(number) <= HUGE
                require(fits, f"{where}={number}: must be 0, or between {TINY:g} and {HUGE:g} in size")
            elif isinstance(number, int):
                require(abs(number) <= LARGEST, f"{where}: a whole number must be at most 2^63 - 1 in size")
                counted = field.name not in ("seed", "seeds")  # the only whole numbers that count nothing
                require(not counted or abs(number) <= MOST, f"{where}={number}: must be at most {MOST:,}")


def require_within(settings: Any, section: str = "", **limits: tuple[float, float]) -> None:
    """Raise ValueError for a number of a settings object outside its least and most, which are both allowed; None passes."""
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            fits = number is None or least <= number <= most
            require(fits, f"{section}{name}={value}: must lie in {least:,} to {most:,}")
