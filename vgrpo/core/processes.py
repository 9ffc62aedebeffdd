"""The processes that share an iteration. Counts and means are over all of them; alone, each operation is the identity.

A group is whole in one process. What is gathered comes in the order of the groups, so it is the same however many processes
there are.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

LONGEST_TEXT = 512  # bytes


class PeerError(RuntimeError):
    """Another process is lost, or works on something else; the text names its rank."""


class Processes(Protocol):
    """What an iteration asks of the others that work on it. All of them have to ask the same, in the same order."""

    @property
    def rank(self) -> int:
        """The number of this process; 0 writes the files and speaks."""

    @property
    def size(self) -> int:
        """How many there are."""

    def share(self, num_groups: int) -> Sequence[int]:
        """Which of an iteration's groups this process draws, judges and trains on."""

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes of a tensor that has the same shape in each. A gradient flows back into all."""

    def gather(self, rows: Tensor, group: Tensor) -> Tensor:
        """The rows [B, ...] of all processes, in the order of their groups [B]. No gradient flows back."""

    def own(self, rows: Tensor, group: Tensor) -> Tensor:
        """Of what `gather` gave, the rows of this process, whose groups are `group`."""

    def most(self, value: int) -> int:
        """The largest of all processes' numbers, each at least 0."""

    def told(self, data: bytes) -> bytes:
        """What process 0 says; what the others give is left out."""

    def require_same(self, what: str, data: bytes) -> None:
        """Raises PeerError, in every process, naming the first rank whose data are not those of rank 0."""

    def wait_for_first(self) -> None:
        """Return when process 0 has called this, too: nobody leaves while it saves. For an end that all have agreed on."""

    def watched(self) -> AbstractContextManager[None]:
        """While something inside talks to the others by itself: raises PeerError, naming who, if another process is lost."""


class Alone:
    """One process does it all."""

    rank = 0
    size = 1

    def share(self, num_groups: int) -> Sequence[int]:
        return range(num_groups)

    def total(self, value: Tensor) -> Tensor:
        return value

    def gather(self, rows: Tensor, group: Tensor) -> Tensor:
        return rows

    def own(self, rows: Tensor, group: Tensor) -> Tensor:
        return rows

    def most(self, value: int) -> int:
        return value

    def told(self, data: bytes) -> bytes:
        return data

    def require_same(self, what: str, data: bytes) -> None:
        return

    def wait_for_first(self) -> None:
        return

    def watched(self) -> AbstractContextManager[None]:
        return nullcontext()


ALONE: Processes = Alone()


def first_text(own: str, processes: Processes) -> str:
    """The text of the first process that has one, in every process; of a long one the beginning."""
    content = own.encode()[:LONGEST_TEXT]
    row = torch.zeros(1, LONGEST_TEXT, dtype=torch.uint8)
    row[0, : len(content)] = torch.tensor(list(content), dtype=torch.uint8)
    rows = processes.gather(row, torch.tensor([processes.rank]))
    texts = (bytes(each.tolist()).rstrip(b"\0").decode(errors="ignore") for each in rows)
    return next((text for text in texts if text), "")
