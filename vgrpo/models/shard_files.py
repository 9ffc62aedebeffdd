"""Tensors that are in several files, one after another along their first dimension, and read where they are needed.

So a process of a resumed run reads its own part, however many processes wrote them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vgrpo.models.sharding import own_part, own_rows, rows_of_part, spread_like


class Parts:
    """The files of a checkpoint's parts, of which each holds its rows of every tensor."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._open: dict[int, Any] = {}

    def read(self, name: str, part: int, rows: slice) -> Tensor:
        """Raises ValueError for a file without them."""
        try:
            if part not in self._open:
                self._open[part] = safe_open(self.paths[part], framework="pt")
            found: Tensor = self._open[part].get_slice(name)[rows]
        except SafetensorError as error:
            raise ValueError(f"{self.paths[part]}: {name} cannot be read ({error})") from error
        return found.clone()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A tensor in parts."""

    name: str
    shape: tuple[int, ...]
    parts: Parts

    def read(self, rows: slice = slice(None)) -> Tensor:
        """Some of its rows, by default all. Raises ValueError if a file does not hold what it must."""
        start, stop, _ = rows.indices(self.shape[0])
        found = []
        for part in range(len(self.parts.paths)):
            own = rows_of_part(self.shape[0], part, len(self.parts.paths))
            first, last = max(start, own.start), min(stop, own.stop)
            if first < last or (part == 0 and start == stop):
                found.append(self.parts.read(self.name, part, slice(first - own.start, max(first, last) - own.start)))
        value = torch.cat(found)
        if value.shape != (stop - start, *self.shape[1:]):
            raise ValueError(f"{self.parts.paths[0].parent}: {self.name} is not of shape {list(self.shape)}")
        return value


def rows_of(value: Tensor | Rows, like: Tensor) -> Tensor:
    """Of what a checkpoint holds of a tensor, the rows that this process has of one like it."""
    rows = own_rows(like)
    return value.read(rows) if isinstance(value, Rows) else value[rows] if value.dim() > 0 else value


def fill(place: Tensor, value: Tensor | Rows) -> None:
    """Put what a checkpoint holds of a tensor into one, of which this process may have a part."""
    own_part(place).copy_(rows_of(value, place))


def moments_like(parameters: list[nn.Parameter], state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state from a checkpoint, spread as its parameters are."""

    def own(value: Any, parameter: nn.Parameter) -> Any:
        if isinstance(value, Rows):
            return spread_like(value.read(own_rows(parameter)), parameter)
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0:
            return spread_like(value[own_rows(parameter)], parameter)
        return value

    moments = {
        index: {name: own(value, parameters[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return state | {"state": moments}
