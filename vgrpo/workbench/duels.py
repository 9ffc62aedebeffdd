"""Two checkpoints side by side without their names: a person's choices, kept in a file and summed up with an interval.

A duel is known by what its two sides are: a run that is moved or called otherwise keeps its choices, and another one that comes
to have its name does not get them. Its pairs are the pictures of the same prompt and noise on both. Which side stands left is
drawn by the duel's and the pair's names, so that it is neither known beforehand nor changed by a reload.
"""

import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vgrpo.pages.run_files import MB, RunFiles
from vgrpo.workbench.pictures import NUM_IMAGES, prompts_of
from vgrpo.workbench.runs import Run

NAME = "comparisons.jsonl"
Z = 1.96
"""Standard deviations of a normal interval of 95%."""
Choice = Literal["left", "right", "tie"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run's sample pictures of one iteration."""

    run: Run
    part: str

    @property
    def name(self) -> str:
        return f"{self.run.name}@{self.part}"

    @property
    def key(self) -> str:
        """Of the settings, prompts and scores, which other pictures do not share."""
        files, digest = self.run.files(), hashlib.blake2b(self.part.encode(), digest_size=16)
        for name in ("config.yaml", f"samples/{self.part}/prompts.txt", f"samples/{self.part}/scores.json"):
            digest.update(files.read(name, 4 * MB) or b"-")
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Pair:
    index: int
    """Of the prompt."""
    member: int
    prompt: str
    swapped: bool
    """Whether the second side stands left."""

    @property
    def id(self) -> str:
        return f"{self.index}.{self.member}"


@dataclass(frozen=True, kw_only=True)
class Duel:
    first: Side
    second: Side

    @cached_property
    def id(self) -> str:
        return hashlib.blake2b(f"{self.first.key}\n{self.second.key}".encode(), digest_size=8).hexdigest()

    def pairs(self) -> list[Pair]:
        """In an order that is drawn as well, so that the first images of all prompts do not come first."""
        sides = [(side.run.files(), side.part) for side in (self.first, self.second)]
        prompts = [prompts_of(*side) for side in sides]
        there = set.intersection(*({*files.samples(f"samples/{part}")} for files, part in sides))
        pairs = [
            Pair(index=index, member=member, prompt=text, swapped=_drawn(self.id, index, member) % 2 == 1)
            for index, text in enumerate(prompts[0])
            if index in there and text and prompts[1][index : index + 1] == [text]
            for member in range(NUM_IMAGES)
        ]
        return sorted(pairs, key=lambda pair: _drawn(self.id, "order", pair.id))

    def side(self, pair: Pair, place: str) -> Side:
        """Who stands left or right."""
        return self.second if (place == "left") == pair.swapped else self.first


def keep_choice(folder: Path, duel: Duel, pair: Pair, choice: Choice) -> None:
    """Append a choice. A link of the file's name is not followed. Raises OSError if it cannot be written."""
    winner = None if choice == "tie" else duel.side(pair, choice)
    line = {
        "time": round(time.time()),
        "duel": duel.id,
        "pair": pair.id,
        "prompt": pair.prompt,
        "first": _place(duel.first, pair),
        "second": _place(duel.second, pair),
        "winner": "tie" if winner is None else "first" if winner is duel.first else "second",
    }
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(folder / NAME, flags, 0o644)
    with os.fdopen(descriptor, "ab") as file:
        file.write((json.dumps(line) + "\n").encode())


def choices(folder: Path, duel: Duel) -> dict[str, dict[str, Any]]:
    """The last choice for every pair of a duel."""
    found: dict[str, dict[str, Any]] = {}
    for text in RunFiles(folder).text(NAME, 16 * MB, cut=True).split("\n"):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and line.get("duel") == duel.id and line.get("winner") in ("first", "second", "tie"):
            found[str(line.get("pair"))] = line
    return found


def result(kept: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How often the second side won, ties counted as half, with Wilson's 95% interval (1927) for as many independent choices as
    these are worth."""
    wins = {name: sum(line["winner"] == name for line in kept.values()) for name in ("first", "second", "tie")}
    count = sum(wins.values())
    share = (wins["second"] + wins["tie"] / 2) / count if count else None
    low, high = (None, None) if share is None else wilson(share, worth(kept, share))
    return {**wins, "count": count, "share": share, "low": low, "high": high}


def worth(kept: dict[str, dict[str, Any]], share: float) -> float:
    """How many independent choices these are worth: images of one prompt tend to win together (Kish's design effect, 1965). At
    least one for each prompt, at most all."""
    excess: dict[str, list[float]] = {}
    for line in kept.values():
        value = {"first": 0.0, "tie": 0.5, "second": 1.0}[line["winner"]]
        excess.setdefault(str(line.get("prompt")), []).append(value - share)
    count, num_prompts = len(kept), len(excess)
    if num_prompts < 2:
        return float(num_prompts)
    spread = num_prompts / (num_prompts - 1) * sum(sum(values) ** 2 for values in excess.values()) / count**2
    alike = sum(value**2 for values in excess.values() for value in values) / count
    return min(count, max(num_prompts, alike / spread)) if spread > 0 else float(num_prompts)


def wilson(share: float, count: float) -> tuple[float, float]:
    """The interval of a share that was seen in so many independent trials."""
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def preferences(kept: dict[str, dict[str, Any]]) -> str:
    """Lines of preference pairs, as they are trained on: prompt, chosen and rejected, each a strip's file and the place in it.
    Ties are left out."""
    lines = []
    for line in kept.values():
        if line["winner"] != "tie":
            loser = "first" if line["winner"] == "second" else "second"
            lines.append({"prompt": line.get("prompt"), "chosen": line.get(line["winner"]), "rejected": line.get(loser)})
    return "".join(json.dumps(line) + "\n" for line in lines)


def _place(side: Side, pair: Pair) -> dict[str, Any]:
    return {"run": side.run.name, "strip": f"samples/{side.part}/{pair.index:02d}.png", "image": pair.member}


def _drawn(*names: int | str) -> int:
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8).digest(), "big")
