"""How long answers take, lately."""

from collections import deque


class Pace:
    """Seconds of the last answers: one that takes several times as long as the slowest of them may never come."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=16)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    @property
    def slowest(self) -> float:
        """Of the last answers; 0 before the first."""
        return max(tuple(self._seconds), default=0.0)  # a copy, since other threads add
