"""The processes that share an iteration. Counts and means are over all of them; alone, each operation is the identity."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Processes(Protocol):
    """What an iteration asks of the others that work on it."""

    def share(self, num_groups: int) -> Sequence[int]:
        """Which of an iteration's groups this process draws, judges and trains on."""

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes of a tensor that has the same shape in each."""

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of their groups."""

    def own(self, rows: Tensor) -> Tensor:
        """Of what `gather` gave, the rows of this process."""


class Alone:
    """One process does it all."""

    def share(self, num_groups: int) -> Sequence[int]:
        return range(num_groups)

    def total(self, value: Tensor) -> Tensor:
        return value

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def own(self, rows: Tensor) -> Tensor:
        return rows


ALONE: Processes = Alone()
