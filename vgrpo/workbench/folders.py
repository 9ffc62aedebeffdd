"""Where runs lie below a folder, found again at the price of one look at each folder that has not changed."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEEPEST = 3
"""Levels of folders below the given one in which runs are looked for: a curriculum's stages lie in the second."""
MOST_RUNS, MOST_FOLDERS = 2000, 20_000
SETTLED = 2.0
"""Seconds after a change in which another may have the same time, as a disk's clock is coarse."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a folder held."""

    changed: int
    """Its own time of change then, in ns: an entry that comes or goes changes it."""
    settled: bool
    is_run: bool
    folders: tuple[str, ...]


class Folders:
    """A tree of folders, without following links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, Listed] = {}

    def runs(self) -> list[Path]:
        """Those that hold a run now, in the order of their names, the outer ones first. Nothing below a run is looked at."""
        listed: dict[Path, Listed] = {}
        found = []
        for folder, entry in self._walk():
            listed[folder] = entry
            if entry.is_run:
                found.append(folder)
            if len(found) >= MOST_RUNS or len(listed) >= MOST_FOLDERS:
                break
        self._listed = listed
        return found

    def _walk(self) -> Iterator[tuple[Path, Listed]]:
        waiting = [(self.root, 0)]
        for folder, depth in waiting:  # grows while it is read: the outer ones first
            try:
                entry = self._look(folder)
            except OSError:
                continue
            yield folder, entry
            if depth < DEEPEST and not entry.is_run:
                waiting += [(folder / name, depth + 1) for name in entry.folders]

    def _look(self, folder: Path) -> Listed:
        changed, known = folder.stat(follow_symlinks=False).st_mtime_ns, self._listed.get(folder)
        if known is not None and known.settled and known.changed == changed:
            return known
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        files = {entry.name for entry in inside if entry.is_file(follow_symlinks=False)}
        folders = tuple(
            entry.name for entry in inside if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        )
        return Listed(
            changed=changed,
            settled=time.time() - changed / 1e9 > SETTLED,
            is_run={"config.yaml", "metrics.jsonl"} <= files,
            folders=folders,
        )
