"""Settings are checked when they are made: the value, the rule, and what to do instead."""

import dataclasses
import math
from typing import Any


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_finite(settings: Any, section: str = "") -> None:
    """Raise ValueError if a number of a settings object is infinite or not a number.

    NaN passes every comparison such as `lr <= 0`, so each settings class asks for this beside its own rules. `section` is
    the prefix under which a user knows the settings, such as "update.".
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{section}{field.name}={number}: must be a finite number")
