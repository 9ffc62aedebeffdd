"""Checkpoints of spread weights: each process writes its own part, and the first makes a checkpoint of them.

All wait for each other, so nothing is written beside training. The folder must be on a disk that all of them see.
"""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vgrpo.core.processes import PeerError, Processes
from vgrpo.models.sharding import Spread
from vgrpo.support.files import sync
from vgrpo.training.checkpoints.checkpoint import REST, CheckpointWriter, move, retire
from vgrpo.training.checkpoints.folder import delete, draft_of, name_of
from vgrpo.training.checkpoints.manifest import write_file, write_manifest
from vgrpo.training.checkpoints.state_files import Snapshot, name_of_part


class SpreadWriter(CheckpointWriter):
    """Every process has one and calls `save` when the others do."""

    asks_all = True

    def __init__(self, folder: Path, keep: int, spread: Spread, processes: Processes) -> None:
        if processes.rank == 0:
            super().__init__(folder, keep)
        else:
            self.folder, self.saved, self.seconds_waited = folder, None, 0.0
        self.spread, self.processes = spread, processes

    def save(self, state: dict[str, Any], iteration: int, *, wait: bool = False) -> Path:
        """Write a state of which each process has a part, and wait until all of it is on the disk; returns where it is.

        Raises OSError where the disk refuses, and PeerError in the other processes.
        """
        began = time.perf_counter()
        path, first = self.folder / name_of(iteration), self.processes.rank == 0
        draft = Path(self.processes.told(str(draft_of(self.folder, iteration)).encode()).decode())
        try:
            self._together(lambda: draft.mkdir() if first else None, "make the folder of a checkpoint")
            snapshot = Snapshot(state)
            own = self._together(lambda: self._write_part(snapshot, draft), "write its part of a checkpoint")
            files = self._lines(own)
            self._together(
                lambda: self._complete(snapshot, draft, iteration, files) if first else None, "complete a checkpoint"
            )
        except BaseException:
            if first and draft.exists():
                delete(draft)
            raise
        self.seconds_waited += time.perf_counter() - began
        self.saved = path
        return path

    def finish(self) -> None:
        return

    def _write_part(self, snapshot: Snapshot, draft: Path) -> dict[str, Any] | None:
        """Of those with the same part the first writes it. What is not spread is in part 0."""
        part = self.spread.sharers.rank
        if self.spread.replicas.rank > 0:
            return None
        if not draft.is_dir():
            raise FileNotFoundError(
                errno.ENOENT,
                "the checkpoints of spread weights must be on a disk that all machines see, and not here",
                str(draft),
            )
        if part > 0:
            snapshot.drop_whole()
        line = write_file(draft / name_of_part(part, self.spread.sharers.size), snapshot.tensor_bytes())
        sync(draft)
        return line

    def _lines(self, own: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
        """The manifest's lines of all parts."""
        rows, part = torch.zeros(0, 33, dtype=torch.int64), self.spread.sharers.rank
        if own is not None:
            rows = torch.tensor([[own["size"], *bytes.fromhex(own["sha256"])]])
        table = self.processes.gather(rows, torch.full((len(rows),), part))
        lines = [{"size": int(row[0]), "sha256": bytes(row[1:].tolist()).hex()} for row in table]
        return {name_of_part(index, len(lines)): line for index, line in enumerate(lines)}

    def _complete(self, snapshot: Snapshot, draft: Path, iteration: int, files: dict[str, dict[str, Any]]) -> None:
        path = self.folder / name_of(iteration)
        write_manifest(draft, iteration, files | {REST: write_file(draft / REST, [snapshot.json_bytes()])}, in_parts=True)
        move(draft, path)
        sync(self.folder)
        self._known.add(path)
        retire(self.folder, iteration, self.keep, self._known)

    def _together(self, action: Callable[[], Any], what: str) -> Any:
        """What each process does, and whether all could."""
        result, failure = None, None
        try:
            result = action()
        except OSError as error:
            failure = error
        if self.processes.most(failure is not None):
            raise failure or PeerError(f"another process could not {what}")
        return result
