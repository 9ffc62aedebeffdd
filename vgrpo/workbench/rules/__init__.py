"""What a run's numbers say in words, and what usually helps. docs/workbench.md lists the rules.

A rule is a function from a run's numbers to a finding, or to None where all is well. Each has its threshold above it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from vgrpo.workbench.rules.base import ENOUGH, Finding, Numbers
from vgrpo.workbench.rules.learning import does_not_generalise, falling_reward, flat_reward, hacking, no_spread
from vgrpo.workbench.rules.machine import failing_reward, slow_reward, slowed_down
from vgrpo.workbench.rules.updates import bad_steps, clipped, first_ratio, gradient_spikes, noisy_surrogate, runaway_ratios

Rule = Callable[[Numbers], Finding | None]
LEVELS = ("bad", "warn", "note")
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        hacking,
        falling_reward,
        no_spread,
        runaway_ratios,
        clipped,
        bad_steps,
        gradient_spikes,
        failing_reward,
        first_ratio,
        flat_reward,
        noisy_surrogate,
        does_not_generalise,
        slowed_down,
        slow_reward,
    )
}


def findings(numbers: Numbers) -> list[Finding]:
    found = [dataclasses.replace(finding, rule=name) for name, rule in RULES.items() if (finding := rule(numbers))]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def diagnosis(numbers: Numbers) -> dict[str, Any]:
    """As the page shows it."""
    return {
        "iterations": numbers.series.rows,
        "enough": numbers.series.rows >= ENOUGH,
        "rules": len(RULES),
        "findings": [dataclasses.asdict(finding) for finding in findings(numbers)],
    }
