"""The runs below a folder, and what is known of each at a glance."""

import hashlib
import json
import socket
import time
from pathlib import Path
from threading import Lock
from typing import Any

from vgrpo.pages.run_files import RunFiles, number, table
from vgrpo.support.lock import holder_of
from vgrpo.support.secrets import redact
from vgrpo.workbench.folders import Folders
from vgrpo.workbench.index import Index
from vgrpo.workbench.series import Series

DEEPEST = 3
"""Sections of settings inside one another."""
MOST_TEXT = 500
"""Letters of a prompt, a name or a note."""
QUIET = 300.0
"""Seconds without a new line after which a run whose process is not on this machine counts as stopped."""


class Run:
    """A run's folder. Its id, and no path, is what a browser may name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.id = hashlib.blake2b(str(folder).encode(errors="surrogateescape"), digest_size=8).hexdigest()
        self.series = Series()
        self.lock = Lock()

    def files(self) -> RunFiles:
        """Anew for each answer, since it gathers notes."""
        return RunFiles(self.folder)

    def fresh_series(self) -> Series:
        with self.lock:
            self.series.refresh(self.files())
            return self.series

    def state(self) -> str:
        """finished, running, or stopped."""
        files = self.files()
        if files.stamp("finished") is not None:
            return "finished"
        holder = holder_of(self.folder)
        if holder is None:
            return "stopped"
        here = holder.get("host") == socket.gethostname()  # of a process elsewhere, its numbers are all that can be seen
        return "running" if here or time.time() - self.changed() < QUIET else "stopped"

    def changed(self) -> float:
        """When its numbers last grew, in seconds since 1970."""
        stamp = self.files().stamp("metrics.jsonl")
        return int(stamp.split(":")[1]) / 1e9 if stamp else 0.0

    def summary(self, index: Index | None = None) -> dict[str, Any]:
        """A line of the list of runs. What takes reading comes from the index, unless a file has changed, or there is none."""
        files, state = self.files(), self.state()
        stamp = "|".join(str(files.stamp(name)) for name in ("metrics.jsonl", "config.yaml", "eval.json"))
        known = index.summary(self.id, stamp) if index else None
        if known is None:
            known = self._facts(files, keep=index is None or state == "running")
            if index:
                index.keep_summary(self.id, stamp, known)
        return {"id": self.id, "name": shown(self.name), "state": state, "changed": self.changed(), **known}

    def _facts(self, files: RunFiles, *, keep: bool) -> dict[str, Any]:
        """`keep` holds the numbers in memory, to read on from there; of thousands of runs that ended they are gigabytes."""
        if keep:
            series = self.fresh_series()
        else:
            series = Series()
            series.refresh(files)
        (_, settings), evaluation = files.settings(), files.evaluation()
        rewards = series.known("reward/mean")
        base, tuned = (table(evaluation.get(part)) for part in ("base", "tuned"))
        metric = "reward" if number(base.get("strict")) is None else "strict"
        return {
            "iterations": series.rows,
            "planned": number(settings.get("num_iterations")),
            "algorithm": shown(table(settings.get("objective")).get("name", "")),
            "model": shown(settings.get("model", "")),
            "rewards": [shown(name) for name in _list(settings.get("reward"))],
            "reward": rewards[-1] if rewards else None,
            "spark": series.spark(),
            "seconds": series.seconds(),
            "held_out": {"metric": metric, "base": number(base.get(metric)), "tuned": number(tuned.get(metric))},
        }


class Runs:
    """All runs of a folder, by id. A folder that is itself a run is the only one."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._folders = Folders(self.root)
        self._runs: dict[str, Run] = {}
        self._lock = Lock()

    def found(self) -> list[Run]:
        """Those that are there now, the one that changed last first."""
        with self._lock:
            known = {run.folder: run for run in self._runs.values()}
            runs = [known.get(folder) or Run(folder, self._name(folder)) for folder in self._folders.runs()]
            self._runs = {run.id: run for run in runs}
        return sorted(runs, key=lambda run: run.changed(), reverse=True)

    def _name(self, folder: Path) -> str:
        return folder.name if folder == self.root else str(folder.relative_to(self.root))

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id) or next((run for run in self.found() if run.id == run_id), None)


def shown(value: object) -> str:
    """A text of a folder's, without secrets, cut to a length that can be shown. The page takes it as text, never as HTML."""
    text = value if isinstance(value, str) else "" if value is None else str(value)[:MOST_TEXT]
    text = redact(text[: 4 * MOST_TEXT]).encode("utf-8", errors="replace").decode()  # half a character is no UTF-8
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def plain(value: object, levels: int = 6) -> Any:
    """A value of somebody's JSON as a page can take it: finite numbers and short texts, so many levels deep."""
    if isinstance(value, dict) and levels:
        return {shown(name): plain(item, levels - 1) for name, item in list(value.items())[:MOST_TEXT]}
    if isinstance(value, list) and levels:
        return [plain(item, levels - 1) for item in value[:MOST_TEXT]]
    return shown(value) if isinstance(value, str) else number(value)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings by their names on the command line, as texts that can be compared."""
    found: dict[str, str] = {}
    for name, value in list(settings.items())[:MOST_TEXT]:
        path = shown(f"{prefix}{name}")
        if isinstance(value, dict) and prefix.count(".") < DEEPEST:
            found |= flat(value, f"{path}.")
        else:
            found[path] = shown(json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else value)
    return found


def _list(value: object) -> list[Any]:
    return value[:MOST_TEXT] if isinstance(value, list) else [] if value is None else [value]
