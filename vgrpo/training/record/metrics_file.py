"""metrics.jsonl: an iteration's numbers per line, in order. A killed run may tear the last line, and nothing else."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from vgrpo.support.files import write_whole
from vgrpo.support.json_files import parse_json, to_json
from vgrpo.training.record.events import Event, IterationDone, RunFinished, RunStopped

NAME = "metrics.jsonl"
Line = dict[str, Any]
"""Numbers by name, None for one that is not finite; `iteration` is always there."""


class Read(NamedTuple):
    lines: list[Line]
    note: str | None
    """What was left out; None if nothing was."""


def read(folder: Path) -> Read:
    """All lines of a run. A torn last one is left out, and that is noted.

    Raises ValueError, naming the line, for other damage.
    """
    path, note = folder / NAME, None
    lines: list[Line] = []
    for number, data, is_torn in _split(path):
        try:
            lines.append(_parsed(data, lines))
        except ValueError as error:
            if not is_torn:
                raise ValueError(f"{path}, line {number}: {error}; delete that line to go on without it") from None
            note = f"{path}: its last line, {number}, was torn and is left out"
    return Read(lines, note)


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """A line to calculate with: what is not finite is NaN."""
    return {name: math.nan if value is None else value for name, value in line.items()}


class MetricsFile:
    """Open for the lines of the iterations from `start` on; earlier ones in the file stay, in `past`, and later ones go.

    Raises ValueError for a broken line among those that stay; what comes after them may be broken.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / NAME
        lines = _before(self.path, start)
        self.past = [numbers(line) for line in lines]
        self.note = _gap(self.path, lines, start)
        write_whole(self.path, "".join(to_json(line) + "\n" for line in lines))
        self._last = start - 1
        self._file = self.path.open("ab", buffering=0)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line. One that the disk has no space for is taken back before the error is raised."""
        iteration = line["iteration"]
        if iteration <= self._last:
            raise ValueError(f"{self.path} has a line of iteration {self._last} already, so none of {iteration} may follow")
        data = (to_json(dict(line)) + "\n").encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(data)
            while written < len(data):  # a disk that is nearly full takes a part, and refuses the next
                written += self._file.write(data[written:])
        except OSError:
            os.ftruncate(self._file.fileno(), size)
            raise
        self._last = iteration

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """As a listener of a run."""
        if isinstance(event, IterationDone):
            self.write(event.values)
        elif isinstance(event, RunStopped | RunFinished):
            self.close()


def _before(path: Path, start: int) -> list[Line]:
    """The lines of the iterations before one. Reading ends with the last of them."""
    lines: list[Line] = []
    for number, data, is_torn in _split(path):
        if start == 0 or (lines and lines[-1]["iteration"] == start - 1):
            break
        try:
            line = _parsed(data, lines)
        except ValueError as error:
            if is_torn:
                break
            raise ValueError(f"{path}, line {number}: {error}; delete that line to go on without it") from None
        if line["iteration"] >= start:
            break
        lines.append(line)
    return lines


def _gap(path: Path, past: list[Line], start: int) -> str | None:
    known = {line["iteration"] for line in past}
    missing = [iteration for iteration in range(start) if iteration not in known]
    if not missing:
        return None
    return f"{path}: {len(missing)} of the {start} iterations so far have no line; the first is {missing[0]}"


def _split(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Number, content, and whether it is torn, of every line that is not blank."""
    *whole, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, data in enumerate(whole, 1):
        if data.strip():
            yield number, data, False
    if rest:
        yield len(whole) + 1, rest, True


def _parsed(data: bytes, before: list[Line]) -> Line:
    """A line's numbers. Raises ValueError, which says what is wrong with it."""
    try:
        line = parse_json(data.decode(), NAME)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(line, dict) or type(line.get("iteration")) is not int:
        raise ValueError("not the numbers of an iteration")
    for name, value in line.items():
        if type(value) not in (int, float, type(None)):
            raise ValueError(f"{name} is no number")
    if before and line["iteration"] <= before[-1]["iteration"]:
        raise ValueError(f"iteration {line['iteration']} after {before[-1]['iteration']}, as if two runs had written")
    return line
