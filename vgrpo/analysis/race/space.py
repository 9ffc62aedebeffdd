"""What tuning may change: dimensions, each a list of alternatives, each a few settings by name.

A trial leaves most dimensions as the method's first setting has them and takes another alternative of the rest. Every second
one also has a learning rate drawn around the first. All is drawn with a seed that names the method and the trial, so a search
can be repeated, and one method's trials do not depend on another's.
"""

import math
import random
from dataclasses import replace
from typing import Any

from vgrpo.core.seeds import seed_of
from vgrpo.training.settings.config import Config

Change = dict[str, Any]
"""Settings by name: `objective.shift`, `update.lr`, `rollout.num_steps`."""
Space = tuple[tuple[Change, ...], ...]

RATE_RANGE = 3.0
"""The learning rate lies within this factor of the first, either way, evenly by its logarithm."""
CHANGE_SHARE = 0.3
"""Of the dimensions, in the mean: trials that change many at once mostly land where nothing learns."""
TRIES = 100
"""Draws for each trial before a space counts as exhausted."""


def changed(entry: Config, change: Change) -> Config:
    """An entry with other settings. Raises ValueError for a combination that is none, or for a setting that is not there."""
    for part in dict.fromkeys(name.partition(".")[0] for name in change):
        own = {name.partition(".")[2]: value for name, value in change.items() if name.startswith(f"{part}.")}
        try:
            entry = replace(entry, **{part: replace(getattr(entry, part), **own)})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{part}: no settings {', '.join(own)} there") from error
    return entry


def trial_changes(name: str, entry: Config, space: Space, count: int, seed: int) -> list[Change]:
    """What each of `count` trials of a method changes, all different; the first is the entry as it is.

    Raises ValueError if the space has not so many.
    """
    found: list[Change] = [{}]
    settings = [entry]
    for number in range(TRIES * count):
        if len(found) == count:
            return found
        change = _drawn(entry, space, random.Random(seed_of(seed, "trial", name, number)))
        try:
            trial = changed(entry, change)
        except ValueError:  # alternatives that do not go together
            continue
        if trial not in settings:
            found.append(change)
            settings.append(trial)
    raise ValueError(f"search.num_trials={count}: the settings of {name} allow only {len(found)} different trials")


def _drawn(entry: Config, space: Space, rng: random.Random) -> Change:
    rate = entry.learning_rate * RATE_RANGE ** rng.uniform(-1, 1)
    change = {"update.lr": round(rate, 1 - math.floor(math.log10(rate)))} if rng.random() < 0.5 else {}
    for alternatives in space:
        others = [each for each in alternatives if not _as_it_is(entry, each)]
        if others and rng.random() < CHANGE_SHARE:
            change |= rng.choice(others)
    return change


def _as_it_is(entry: Config, change: Change) -> bool:
    """Whether an entry has these settings already."""
    parts = ((*name.split("."), value) for name, value in change.items())
    return all(getattr(getattr(entry, part), field) == value for part, field, value in parts)
