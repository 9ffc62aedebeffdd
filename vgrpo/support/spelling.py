"""How alike two spellings are, and what an unknown name may have meant."""

import difflib
from collections.abc import Iterable

LONGEST = 100
"""Letters of a name; a longer one is no slip of the finger, and is compared with nothing."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if any is like it."""
    near = difflib.get_close_matches(name, list(known), n=1) if len(name) <= LONGEST else []
    return near[0] if near else None


def hint(name: str, known: Iterable[str], form: str = "{}") -> str:
    """For the error about an unknown name: asks for the nearest of the known ones, written as `form`, or else lists them."""
    known = list(known)
    near = nearest(name, known)
    return f"did you mean {form.format(near)}?" if near else f"known are {', '.join(known)}."


def similarity(read: str, target: str) -> float:
    """1 - min(d, n) / n with d the edit distance and n the length of the target, which must not be empty."""
    return 1 - min(edit_distance(read, target), len(target)) / len(target)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: the fewest insertions, deletions and substitutions between two strings."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
