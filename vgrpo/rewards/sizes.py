"""How many images a reward takes in one call, learned where it failed on more of them and then judged them in parts.

A call that is too large for a GPU's memory would otherwise fail anew each time, and be made again in halves.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from vgrpo.rewards.calls import Reward

SURE = 2
"""Calls that were too large, until later ones are made smaller: a single one may have failed for another reason."""

_found: "WeakKeyDictionary[Any, list[int]]" = WeakKeyDictionary()
"""Of each reward, the sizes in which it judged what it had failed on."""


def parts_of(reward: Reward, count: int) -> list[range]:
    """So many images, in calls that are as large as the reward is known to take."""
    sizes = _found.get(reward, []) if _can_be_known(reward) else []
    size = min(sizes) if len(sizes) >= SURE else count
    return [range(start, min(start + size, count)) for start in range(0, count, max(1, size))]


def note_parts(reward: Reward, asked: Sequence[range], taken: Sequence[range]) -> tuple[str, ...]:
    """The calls that were made first failed in part, and then the reward judged all images in those that it has `taken`. Says
    what a person should know, once."""
    if not _can_be_known(reward):
        return ()
    sizes = _found.setdefault(reward, [])
    sizes.append(max(map(len, taken)))
    if len(sizes) != SURE:
        return ()
    largest = max(map(len, asked))
    return (f"it failed on {largest} images at once and judged them in parts; it gets at most {min(sizes)} from now on",)


def _can_be_known(reward: Reward) -> bool:
    """Whether it can be remembered: a user's object need not be made for it."""
    try:
        _found.get(reward)
    except TypeError:
        return False
    return True
