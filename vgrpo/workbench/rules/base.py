"""What a rule reads and what it finds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

from vgrpo.pages.run_files import table
from vgrpo.workbench.series import Series

RECENT = 20
"""Iterations that count as now."""
ENOUGH = 10
"""Iterations below which a mean says nothing."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule has seen."""

    rule: str = ""
    level: Literal["bad", "warn", "note"]
    title: str
    advice: str
    since: int | None = None
    """Counted from 0, the iteration from which on it holds, where that is known."""
    curves: tuple[str, ...] = ()
    """The numbers to look at."""
    look: bool = False
    """Whether the images that earn most now say more than numbers."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the rules read: a run's columns, its settings and its held-out scores."""

    series: Series
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def recent(self, name: str) -> float | None:
        """The mean of the last RECENT values; None below ENOUGH of them."""
        values = self.series.known(name)[-RECENT:]
        return fmean(values) if len(values) >= ENOUGH else None

    @property
    def tether(self) -> str:
        """The setting that holds a model to the untrained one; V-GRPO's kl_weight is for the old predictions instead."""
        settings = table(self.settings.get("objective"))
        return "objective.kl_weight" if "kl_weight" in settings and "ref_weight" not in settings else "objective.ref_weight"

    @property
    def monitors(self) -> list[str]:
        return [name.removeprefix("monitor/") for name in self.series.columns if name.startswith("monitor/")]


FLAT, LONG = 2.0, 40
"""Standard errors between the first and the last quarter of a run of at least so many iterations."""


def change(values: list[float]) -> float | None:
    """Of the mean from the first quarter to the last, in standard errors; None for a run that is not LONG."""
    if len(values) < LONG:
        return None
    size = len(values) // 4
    first, last = values[:size], values[-size:]
    error = math.sqrt((stdev(first) ** 2 + stdev(last) ** 2) / size)
    difference = fmean(last) - fmean(first)
    return difference / max(error, 1e-9 * max(map(abs, values)), 1e-300)
