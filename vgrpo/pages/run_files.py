"""A run's folder as a page reads it. It may come from anyone, may be half written, and may be made to deceive.

Only regular files inside the folder are read, up to a size; what is left out is noted, with the reason.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from vgrpo.pages.frames import cut
from vgrpo.pages.thumbnails import decode
from vgrpo.support.textfiles import parse_yaml
from vgrpo.worlds.registry import bundled_world

KB, MB = 10**3, 10**6
MOST_NUMBER = 1e100  # a metric beyond it would overflow a chart's arithmetic
NUM_IMAGES = 4  # of a prompt in a sample picture
MOST_IMAGES = 100  # with a verdict
SAMPLE_SET, SAMPLE = re.compile(r"\d{6,}"), re.compile(r"(\d{2,4})\.png")


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST_NUMBER:
        return None
    return float(value)


def table(value: object) -> dict[str, Any]:
    """A mapping, empty for anything else."""
    return value if isinstance(value, dict) else {}


def draws_hard_pixels(settings: dict[str, Any]) -> bool:
    """Whether the pictures are pixel art, by the world of the model or of the prompts."""
    names = [settings.get(key) for key in ("model", "prompts")]
    worlds = [bundled_world(name) for name in names if isinstance(name, str)]
    return any(world is not None and world.hard_pixels for world in worlds)


class RunFiles:
    """What a folder holds, and the notes of what is left out."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()
        self.notes: list[str] = []

    def read(self, name: str, most: int, *, cut: bool = False, start: int = 0) -> bytes | None:
        """A file's bytes from `start` on, None where there is none to read. Of more than `most` bytes nothing,
        or with `cut` the first so many."""
        path = self.root / name
        if not path.is_symlink() and not path.exists():
            return None
        try:
            data = self._bytes(path, most + 1, start)
            if len(data) > most:
                if not cut:
                    raise ValueError(f"it is larger than {most / MB:g} MB")
                self.leave_out(name, f"it is larger than {most / MB:g} MB; its beginning is shown")
        except (ValueError, OSError) as error:
            self.leave_out(name, str(error))
            return None
        return data[:most]

    def _bytes(self, path: Path, most: int, start: int) -> bytes:
        if not self._inside(path):
            raise ValueError("it leads out of the folder")
        if not path.is_file():
            raise ValueError("it is no file")
        with path.open("rb") as file:
            file.seek(start)
            return file.read(most)

    def stamp(self, name: str) -> str | None:
        """What changes when a file of the folder does; None where there is no file to read."""
        path = self.root / name
        if not self._inside(path) or not path.is_file():
            return None
        return _stamp(path.stat())

    def stamps(self, name: str) -> dict[str, str]:
        """Of all files of a folder of the folder, at the price of one look; links are left out."""
        folder = self.root / name
        try:
            with os.scandir(folder if self._inside(folder) else os.devnull) as entries:
                files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
                return {entry.name: _stamp(entry.stat(follow_symlinks=False)) for entry in files}
        except OSError:
            return {}

    def inside(self, name: str) -> bool:
        """Whether a name of the folder, also one that is not there yet, leads to no place outside it."""
        return self._inside(self.root / name)

    def _inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # links in a circle
            return False

    def text(self, name: str, most: int, *, cut: bool = False) -> str:
        """Empty where there is nothing to read; bytes that are no UTF-8 are noted and replaced."""
        data = self.read(name, most, cut=cut) or b""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.leave_out(name, "parts of it are not UTF-8")
            return data.decode("utf-8", errors="replace")

    def evaluation(self) -> dict[str, Any]:
        """eval.json, empty where there is none."""
        text = self.text("eval.json", 16 * MB)
        content = _parsed(text) if text else {}
        if not isinstance(content, dict):
            self.leave_out("eval.json", "it is no JSON object")
        return table(content)

    def mapping(self, name: str) -> dict[str, Any]:
        """A file's JSON object; empty for anything else."""
        content = _parsed(self.text(name, 4 * MB) or "{}")
        if content is None:
            self.leave_out(name, "it is no JSON object")
        return table(content)

    def settings(self) -> tuple[str, dict[str, Any]]:
        """config.yaml, as it is written and as it is meant."""
        text = self.text("config.yaml", 256 * KB)
        try:
            content = parse_yaml(text) if text else {}
        except (yaml.YAMLError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            self.leave_out("config.yaml", "it holds no settings")
        return text, table(content)

    def names(self, name: str) -> list[str]:
        """What a folder of the folder holds; nothing where it leads out, or is none."""
        folder = self.root / name
        try:
            return os.listdir(folder) if self._inside(folder) else []
        except OSError:
            return []

    def sample_sets(self) -> list[str]:
        """The names of the folders of sample pictures, the first and the last one first and last."""
        folder = self.root / "samples"
        if not self._inside(folder):
            self.leave_out("samples", "it leads out of the folder")
            return []
        sets = (path for path in folder.glob("*") if SAMPLE_SET.fullmatch(path.name))
        return [f"samples/{path.name}" for path in sorted(sets) if self._inside(path) and path.is_dir()]

    def samples(self, name: str) -> list[int]:
        """The numbers of a set's pictures."""
        found = (SAMPLE.fullmatch(path.name) for path in (self.root / name).glob("*.png"))
        return sorted(int(match.group(1)) for match in found if match)

    def verdicts(self, name: str) -> list[list[float | None]]:
        """What a world's verifier said of each image of each prompt of a set; empty where there was none."""
        found = _parsed(self.text(f"{name}/scores.json", 4 * MB) or "{}")
        rows = found.get("strict", []) if isinstance(found, dict) else None
        if not isinstance(rows, list):
            self.leave_out(f"{name}/scores.json", "it holds no scores")
            return []
        return [[number(value) for value in row[:MOST_IMAGES]] if isinstance(row, list) else [] for row in rows]

    def strip(self, name: str) -> list[Image.Image]:
        """The images of one prompt that a sample picture holds side by side; none if it cannot be read."""
        picture = self.picture(name)
        return [] if picture is None else cut(picture, NUM_IMAGES)

    def steered(self) -> list[dict[str, Any]]:
        """The lines of steering.jsonl."""
        lines = self.text("steering.jsonl", MB, cut=True).split("\n")
        return [values for line in lines if line.strip() and isinstance(values := _parsed(line), dict)]

    def picture(self, name: str) -> Image.Image | None:
        data = self.read(name, 64 * MB)
        try:
            return None if data is None else decode(data)
        except ValueError as error:
            self.leave_out(name, str(error))
            return None

    def leave_out(self, name: str, why: str) -> None:
        self.notes.append(f"{name}: {why}")


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"


def line_of(text: str) -> dict[str, float] | None:
    """The numbers of a line of metrics.jsonl; None if it is no JSON object."""
    values = _parsed(text)
    if not isinstance(values, dict):
        return None
    return {name: n for name, value in values.items() if (n := number(value)) is not None}


def _parsed(text: str) -> Any:
    """JSON, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
