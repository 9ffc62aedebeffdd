"""scores/: one line per image, written as batches are done. What is in it is not drawn again.

Batches are the same however the work is split, since a number's last bits depend on what else is in its batch.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vgrpo.evaluation.judged import Judged
from vgrpo.evaluation.pictures import Picture
from vgrpo.support.files import write_whole
from vgrpo.support.json_files import parse_json, read_json, write_json


@dataclass(frozen=True)
class Shard:
    """Every `count`-th batch, from `index`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`0/4` to `3/4`. Raises ValueError for anything else."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not int(found[1]) < int(found[2]):
            raise ValueError(f"--shard {text[:40]}: give its number and how many there are, 0/4 to 3/4")
        return cls(int(found[1]), int(found[2]))


class ScoreFiles:
    """The lines of one model (`base` or `tuned`), of all shards."""

    def __init__(self, folder: Path, name: str, names: list[str], *, strict: bool) -> None:
        """`names` are the rewards'; `strict` says whether a world's strict score stands beside them."""
        self.folder, self.name, self.names, self.strict = folder / "scores", name, names, strict

    def claim(self, settings: dict[str, Any]) -> None:
        """Say what the scores are of. Makes nothing. Raises ValueError if those there are of something else."""
        self.settings, self.path = settings, self.folder / f"{self.name}.json"
        if self.path.exists() and self.read():
            self._check()

    def begin(self) -> None:
        """Write down what the scores are of, before the first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.path.exists() and self.read()):
            write_json(self.path, self.settings)

    def _check(self) -> None:
        known = read_json(self.path)
        other = [key for key in self.settings if known.get(key) != self.settings[key]]
        if other:
            raise ValueError(f"{self.folder} holds scores with another {', '.join(other)}; name another --output-dir")

    def read(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Lines by prompt and image index. A line that was cut short by a kill is none."""
        found = {}
        for path in sorted(self.folder.glob(f"{self.name}-*-of-*.jsonl")):
            for number, text in enumerate(path.read_text().splitlines(keepends=True), 1):
                if text.endswith("\n"):
                    line = parse_json(text, f"{path}, line {number}")
                    found[line["prompt_index"], line["image_index"]] = line
        return found

    def pending(self, pictures: list[Picture], batch_size: int, shard: Shard) -> list[list[Picture]]:
        """The shard's batches that are not complete."""
        batches = [pictures[start : start + batch_size] for start in range(0, len(pictures), batch_size)]
        done = self.read()
        mine = batches[shard.index :: shard.count]
        return [batch for batch in mine if any((picture.index, picture.member) not in done for picture in batch)]

    def write(self, shard: Shard, pictures: list[Picture], judged: Judged) -> None:
        """Append a batch. Raises ValueError as `claim` does."""
        self._check()  # a shard that started at the same time, before any score, may have claimed the folder for other settings
        path = self.folder / f"{self.name}-{shard.index}-of-{shard.count}.jsonl"
        text = path.read_text() if path.exists() else ""
        if not text.endswith("\n"):  # a kill cut the last line short
            write_whole(path, text[: text.rfind("\n") + 1])
        rows = zip(pictures, judged.rewards.tolist(), judged.failed.tolist(), strict=True)
        lines = [self._line(*row) for row in rows]
        if judged.strict is not None:
            lines = [line | {"strict": _number(value)} for line, value in zip(lines, judged.strict.tolist(), strict=True)]
        with path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def _line(self, picture: Picture, values: list[float], failed: list[bool]) -> dict[str, Any]:
        rewards = {name: _number(value) for name, value in zip(self.names, values, strict=True)}
        place = {"prompt_index": picture.index, "image_index": picture.member}
        names = [name for name, fault in zip(self.names, failed, strict=True) if fault]
        return place | {"prompt": picture.prompt.text, "tag": picture.tag, "rewards": rewards, "failed": names}

    def judged(self, pictures: list[Picture]) -> Judged | None:
        """The scores of all images; None while some are missing."""
        done = self.read()
        if any((picture.index, picture.member) not in done for picture in pictures):
            return None
        lines = [done[picture.index, picture.member] for picture in pictures]
        values = [[_value(line["rewards"][name]) for name in self.names] for line in lines]
        failed = [[name in line.get("failed", ()) for name in self.names] for line in lines]
        strict = torch.tensor([_value(line.get("strict")) for line in lines]) if self.strict else None
        return Judged(rewards=torch.tensor(values), failed=torch.tensor(failed), strict=strict)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _number(value: float) -> float | None:
    return None if value != value else value


def _value(number: float | None) -> float:
    return float("nan") if number is None else number
