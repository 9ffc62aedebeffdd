"""How alike two spellings are, and what an unknown name may have meant."""

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str], form: str = "{}") -> str:
    """For the error about an unknown name: asks for the nearest of the known ones, written as `form`, or else lists them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {form.format(near[0])}?" if near else f"known are {', '.join(known)}."


def similarity(read: str, target: str) -> float:
    """1 - min(d, n) / n with d the edit distance and n the target's length."""
    return 1 - min(edit_distance(read, target), len(target)) / len(target)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: the fewest insertions, deletions and substitutions between two strings."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
