"""What was read of run folders, kept in sqlite so that it is read once. It can be deleted at any time.

Each entry has the stamp of the file that it comes from: inode, time of change and size.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

VERSION = 1
"""Of the tables; a file with another one is made anew."""
TABLES = """
CREATE TABLE summaries (run TEXT PRIMARY KEY, stamp TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE sheets (run TEXT, iteration INTEGER, stamp TEXT NOT NULL, PRIMARY KEY (run, iteration));
CREATE TABLE groups (
    run TEXT, iteration INTEGER, place INTEGER, prompt TEXT NOT NULL, low REAL, mean REAL, high REAL,
    PRIMARY KEY (run, iteration, place)
);
"""


class GroupRow(NamedTuple):
    """A group of training images: its iteration, its row of the sheet, its prompt, and its rewards' least, mean and most."""

    iteration: int
    place: int
    prompt: str
    low: float | None
    mean: float | None
    high: float | None


class Index:
    """Open for one server; its threads take turns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / "index.sqlite"
        self._lock = Lock()
        try:
            self._base = self._open()
        except sqlite3.OperationalError as error:  # another server's lock, or a folder that cannot be written
            raise OSError(f"{self.path}: cannot be opened ({error}); name another --cache-dir") from error
        except sqlite3.DatabaseError:  # torn by a power cut, or of another version
            self.path.unlink(missing_ok=True)
            self._base = self._open()

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=10)
        base.create_function("lowered", 1, str.lower, deterministic=True)  # SQL's own knows A to Z alone
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=OFF")  # what a power cut destroys is made again
        version = base.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            base.close()
            raise sqlite3.DatabaseError(f"version {version}")
        if version == 0:
            base.executescript(f"BEGIN EXCLUSIVE; {TABLES} PRAGMA user_version={VERSION}; COMMIT;")
        return base

    def close(self) -> None:
        self._base.close()

    def summary(self, run: str, stamp: str) -> dict[str, Any] | None:
        with self._lock:
            found = self._base.execute("SELECT value FROM summaries WHERE run=? AND stamp=?", (run, stamp)).fetchone()
        return json.loads(found[0]) if found else None

    def keep_summary(self, run: str, stamp: str, value: dict[str, Any]) -> None:
        with self._lock:
            self._base.execute("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", (run, stamp, json.dumps(value)))

    def stamps(self, run: str) -> dict[int, str]:
        """Of the sheets of groups that are known, by iteration."""
        with self._lock:
            return dict(self._base.execute("SELECT iteration, stamp FROM sheets WHERE run=?", (run,)))

    def keep_groups(self, run: str, sheets: dict[int, str], rows: Iterable[GroupRow]) -> None:
        """Take the groups of some iterations anew; `sheets` has the stamp of each."""
        with self._lock, self._base:  # which takes all back if something fails, as on a full disk
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM groups WHERE run=? AND iteration=?", [(run, it) for it in sheets])
            self._base.executemany("INSERT OR REPLACE INTO sheets VALUES (?, ?, ?)", [(run, *item) for item in sheets.items()])
            self._base.executemany("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)", [(run, *row) for row in rows])

    def forget_groups(self, run: str, iterations: Iterable[int]) -> None:
        """Of iterations whose files are gone."""
        with self._lock:
            for name in ("groups", "sheets"):
                self._base.executemany(f"DELETE FROM {name} WHERE run=? AND iteration=?", [(run, it) for it in iterations])

    def groups(self, run: str, words: str, before: tuple[int, int] | None, limit: int) -> list[GroupRow]:
        """The newest first, those with the words in their prompt; `before` is the last one's iteration and place: the next page
        takes as long as the first."""
        conditions, values = ["run=?"], [run]
        for word in words.split()[:8]:
            conditions.append("instr(lowered(prompt), ?)")
            values.append(word.lower())
        limits: list[Any] = [limit]
        if before is not None:
            conditions.append("(iteration, -place) < (?, ?)")
            limits = [before[0], -before[1], limit]
        query = (
            "SELECT iteration, place, prompt, low, mean, high FROM groups WHERE "
            f"{' AND '.join(conditions)} ORDER BY iteration DESC, place LIMIT ?"
        )
        with self._lock:
            return [GroupRow(*row) for row in self._base.execute(query, (*values, *limits))]
