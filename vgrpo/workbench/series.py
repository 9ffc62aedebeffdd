"""The numbers of a run by name, read on from where the last reading ended."""

from typing import Any

from vgrpo.pages.run_files import KB, MB, RunFiles, line_of
from vgrpo.support.secrets import redact

NAME = "metrics.jsonl"
MOST_BYTES = 64 * MB
MOST_NAMES = 400
"""Of numbers in a run; more would be of no use on a page."""
MOST_LETTERS = 200
"""Of a number's name."""
SPARK = 60
"""Points of the small curve in the list of runs."""


class Series:
    """Columns of numbers, one row for each iteration; None where a line has no such number."""

    def __init__(self) -> None:
        self.columns: dict[str, list[float | None]] = {}
        self.rows = 0
        self._names: dict[str, str] = {}
        """As the file has them, to those of the columns."""
        self._stamp: str | None = None
        self._inode, self._offset = "", 0

    def refresh(self, files: RunFiles) -> None:
        """Read what the file has grown by. A file that another took the place of, as when a run is resumed, is read anew."""
        stamp = files.stamp(NAME)
        if stamp is None:
            files.read(NAME, 0)  # which says why, where there is something in its place
        if stamp is None or stamp == self._stamp:
            return
        inode, _, size = stamp.split(":")
        if inode != self._inode or int(size) < self._offset:
            self.columns, self._names, self.rows, self._offset = {}, {}, 0, 0
        data = files.read(NAME, max(256 * KB, MOST_BYTES - self._offset), cut=True, start=self._offset) or b""
        whole, newline, _ = data.rpartition(b"\n")  # the rest is half written, or torn
        self._stamp, self._inode, self._offset = stamp, inode, self._offset + len(whole + newline)
        text, torn = whole.decode("utf-8", errors="replace"), 0
        for line in text.split("\n"):
            values = line_of(line) if line.strip() else {}
            if values:
                self._add(values)
            torn += values is None
        if torn:
            files.leave_out(NAME, f"{torn} of its lines are no JSON object")

    def _add(self, values: dict[str, float]) -> None:
        for name in values.keys() - self._names.keys():
            told = redact(name)  # a monitor may be called by its server's address
            if len(self.columns) < MOST_NAMES and len(name) <= MOST_LETTERS and told not in self.columns:
                self._names[name] = told
                self.columns[told] = [None] * self.rows
        for name, told in self._names.items():
            self.columns[told].append(values.get(name))
        self.rows += 1

    def after(self, row: int) -> dict[str, Any]:
        """The rows from one on, as the page takes them. Another request may be reading on: every column has `rows` at least."""
        rows = self.rows
        columns = {name: column[row:rows] for name, column in sorted(self.columns.items())}
        return {"start": row, "rows": rows, "columns": columns}

    def known(self, name: str) -> list[float]:
        return [value for value in self.columns.get(name, ()) if value is not None]

    def spark(self) -> list[float]:
        """The reward as a small curve: means of neighbours."""
        values = self.known("reward/mean")
        size = max(1, -(-len(values) // SPARK))
        return [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]

    def seconds(self) -> float:
        """Of training so far, without evaluations."""
        return sum(self.known("seconds/total")) + sum(self.known("seconds/checkpoint"))
