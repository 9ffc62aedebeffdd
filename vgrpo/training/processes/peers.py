"""Several processes that train one model, by torch.distributed: each draws, judges and trains its share of every iteration.

Where the model is whole in every process, there is one sum of the gradients per optimiser step, and nothing wraps the module.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vgrpo.core.processes import PeerError
from vgrpo.training.processes.life_signs import LifeSigns


class Peers:
    """This process among them. `group` is torch's, by default that of all processes; `signs` tell who is lost."""

    def __init__(self, group: Any = None, signs: LifeSigns | None = None) -> None:
        self.group, self.signs = group, signs
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def share(self, num_groups: int) -> Sequence[int]:
        """In turn, so that every minibatch, which is of neighbouring groups, has some for each."""
        return range(self.rank, num_groups, self.size)

    def total(self, value: Tensor) -> Tensor:
        if value.requires_grad:
            total: Tensor = _Total.apply(value, self)
            return total
        return self._sum(value)

    def _sum(self, value: Tensor) -> Tensor:
        result = value.detach().clone().contiguous()
        self._together(lambda: dist.all_reduce(result, group=self.group))
        return result

    def gather(self, rows: Tensor, group: Tensor) -> Tensor:
        parts = self._parts(rows.detach()), self._parts(group)
        everything, groups = (torch.cat(part) for part in parts)
        return everything[groups.argsort(stable=True)]

    def own(self, rows: Tensor, group: Tensor) -> Tensor:
        groups = self.gather(group, group)
        return rows[torch.isin(groups, group)]

    def _parts(self, rows: Tensor) -> list[Tensor]:
        """The rows of each process, of which there may be different numbers."""
        counts = self._all(torch.tensor([len(rows)]))
        sizes = [int(count) for count in counts]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        return [part[:size] for part, size in zip(self._all(padded), sizes, strict=True)]

    def _all(self, value: Tensor) -> list[Tensor]:
        """A tensor of one shape from each process."""
        parts = [torch.empty_like(value) for _ in range(self.size)]
        if value.numel() > 0:
            self._together(lambda: dist.all_gather(parts, value.contiguous(), group=self.group))
        return parts

    def most(self, value: int) -> int:
        found = torch.tensor(value)
        self._together(lambda: dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group))
        return int(found)

    def told(self, data: bytes) -> bytes:
        length = self.most(len(data) if self.rank == 0 else 0)
        content = torch.zeros(length, dtype=torch.uint8)
        if self.rank == 0 and length > 0:
            content[:] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if length > 0:
            self._together(lambda: dist.broadcast(content, group=self.group, group_src=0))
        return content.numpy().tobytes()

    def require_same(self, what: str, data: bytes) -> None:
        digest = hashlib.blake2b(data, digest_size=16).digest()
        parts = self._all(torch.tensor(list(digest), dtype=torch.uint8))
        other = [rank for rank, part in enumerate(parts) if not torch.equal(part, parts[0])]
        if other:
            raise PeerError(f"the {what} of rank {other[0]} differ from those of rank 0; start all processes alike")

    def wait_for_first(self) -> None:
        if self.signs is not None:
            self.signs.wait_for_first()

    @contextmanager
    def watched(self) -> Iterator[None]:
        if self.signs is None:
            yield
            return
        try:
            with self.signs.waiting():
                yield
        except (RuntimeError, dist.DistError) as error:
            if type(error) is not RuntimeError and not isinstance(error, dist.DistError):
                raise  # an error of its own kind is this process's
            reason = self.signs.why(error)
            if self.signs.lost is None:
                raise
            raise PeerError(reason) from error

    def _together(self, operation: Callable[[], Any]) -> None:
        """Raises PeerError, naming who, if another process is lost."""
        if self.signs is None:
            operation()
            return
        if self.signs.lost is not None:
            raise PeerError(self.signs.lost)
        try:
            with self.signs.waiting():
                operation()
        except RuntimeError as error:
            raise PeerError(self.signs.why(error)) from error


class _Total(torch.autograd.Function):
    """A sum over processes. Each process's part of the loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers._sum(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.peers._sum(gradient), None
