"""scores/: one line per image, written as batches are done. What is in it is not drawn again.

Batches are the same however the work is split, since a number's last bits depend on what else is in its batch.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.evaluation.core import Job
from vgrpo.support.files import write_whole


@dataclass(frozen=True)
class Shard:
    """Every `count`-th batch, from `index`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`0/4` to `3/4`. Raises ValueError for anything else."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(f"--shard {text}: give its number and how many there are, 0/4 to 3/4")
        return cls(int(index), int(count))


class ScoreFiles:
    """The lines of one model (`base` or `tuned`), of all shards."""

    def __init__(self, folder: Path, name: str, names: list[str]) -> None:
        self.folder, self.name, self.names = folder / "scores", name, names
        self.folder.mkdir(parents=True, exist_ok=True)

    def claim(self, settings: dict[str, Any]) -> None:
        """Write down what the scores are of. Raises ValueError if those there are of something else."""
        self.settings, self.path = settings, self.folder / f"{self.name}.json"
        if self.path.exists() and self.read():
            self._check()
        write_whole(self.path, json.dumps(settings, indent=1))

    def _check(self) -> None:
        known = json.loads(self.path.read_text())
        other = [key for key in self.settings if known.get(key) != self.settings[key]]
        if other:
            raise ValueError(f"{self.folder} holds scores with another {', '.join(other)}; name another --output-dir")

    def read(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Lines by prompt and image index. A line that was cut short by a kill is none."""
        found = {}
        for path in sorted(self.folder.glob(f"{self.name}-*-of-*.jsonl")):
            for text in path.read_text().splitlines(keepends=True):
                if text.endswith("\n"):
                    line = json.loads(text)
                    found[line["prompt_index"], line["image_index"]] = line
        return found

    def pending(self, jobs: list[Job], batch_size: int, shard: Shard) -> list[list[Job]]:
        """The shard's batches that are not complete."""
        batches = [jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size)]
        done = self.read()
        mine = batches[shard.index :: shard.count]
        return [batch for batch in mine if any((job.index, job.member) not in done for job in batch)]

    def write(self, shard: Shard, jobs: list[Job], values: Tensor, strict: Tensor) -> None:
        """Append a batch: rewards [B, R] and strict scores [B]. Raises ValueError as `claim` does."""
        self._check()  # a shard that started at the same time, before any score, may have claimed the folder for other settings
        path = self.folder / f"{self.name}-{shard.index}-of-{shard.count}.jsonl"
        text = path.read_text() if path.exists() else ""
        if not text.endswith("\n"):  # a kill cut the last line short
            write_whole(path, text[: text.rfind("\n") + 1])
        lines = [self._line(*row) for row in zip(jobs, values.tolist(), strict.tolist(), strict=True)]
        with path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def _line(self, job: Job, values: list[float], strict: float) -> dict[str, Any]:
        rewards = {name: _number(value) for name, value in zip(self.names, values, strict=True)}
        line = {"prompt_index": job.index, "image_index": job.member, "prompt": job.prompt.text, "tag": job.tag}
        return line | {"rewards": rewards, "strict": _number(strict)}

    def tensors(self, jobs: list[Job]) -> tuple[Tensor, Tensor] | None:
        """Rewards [B, R] and strict scores [B] of all images, NaN where a reward failed; None while some are missing."""
        done = self.read()
        if any((job.index, job.member) not in done for job in jobs):
            return None
        lines = [done[job.index, job.member] for job in jobs]
        values = [[_value(line["rewards"][name]) for name in self.names] for line in lines]
        return torch.tensor(values), torch.tensor([_value(line["strict"]) for line in lines])


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _number(value: float) -> float | None:
    return None if value != value else value


def _value(number: float | None) -> float:
    return float("nan") if number is None else number
