"""Where a run's workers are: addresses, and files of them that are read again while the run goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vgrpo.support.http.hosts import checked_address
from vgrpo.support.textfiles import read_text

OPTION = "--rollout-workers"
EXAMPLE = "http://HOST:8200"


class Addresses:
    """Of workers that are given by their addresses, in a list that may change, or as `@FILE`, with one address a line.

    Raises ValueError for an address that is none, OSError or ValueError for a file that cannot be read or names no worker.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self.given = given
        self.files = {each: WorkersFile(Path(each[1:])) for each in given if each.startswith("@")}
        self.now(lambda text: None)

    def now(self, notice: Callable[[str], None]) -> list[str]:
        """Each once. `notice` is told, in words, what is new and what is wrong in a file."""
        found = list[str]()
        for each in self.given:
            found += self.files[each].now(notice) if each in self.files else [_direct(each)]
        return list(dict.fromkeys(found))


class WorkersFile:
    """The workers that a file names. Blank lines and those that begin with # name none. Raises as `Addresses` does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = self._state()
        self.addresses, self.problems = self._read()
        if not self.addresses:
            raise ValueError(
                next(iter(self.problems), f"{OPTION} @{path} is empty; write an address a line, such as {EXAMPLE}")
            )

    def now(self, notice: Callable[[str], None]) -> list[str]:
        """Those of the file as it is. While it cannot be read, those that it named before."""
        before = self.addresses
        try:
            state = self._state()
            if state != self.seen:
                self.addresses, self.problems = self._read()
                self.seen = state
        except (OSError, ValueError) as error:
            notice(f"{OPTION} @{self.path}: {error}; the workers that it named before are asked")
        for what, there, here in (("is new", self.addresses, before), ("is not asked any more", before, self.addresses)):
            for address in there:
                if address not in here:
                    notice(f"rollout worker {address} {what}, by {self.path}")
        for problem in self.problems:
            notice(f"{problem}; the line is left out")
        return self.addresses

    def _state(self) -> tuple[int, ...]:
        """Another one after every change."""
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{OPTION} @{self.path}: no such file; write one with an address a line") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[list[str], list[str]]:
        """The addresses, and of the other lines what is wrong."""
        addresses, problems = list[str](), list[str]()
        for number, line in enumerate(read_text(self.path).splitlines(), 1):
            text = line.strip()
            if text and not text.startswith("#"):
                try:
                    addresses.append(checked_address(text, f"{OPTION} @{self.path}, line {number}"))
                except ValueError as error:
                    problems.append(str(error))
        return addresses, problems


def _direct(address: str) -> str:
    return checked_address(address, f"{OPTION}: give addresses such as {EXAMPLE}")
