"""Checkpoints that are whole or absent: written beside their place, then moved into it."""

import os
import re
from pathlib import Path
from typing import Any

import torch


def save(state: dict[str, Any], folder: Path, iteration: int, keep: int = 2) -> Path:
    """Write `iteration-000025.pt` and delete all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"iteration-{iteration:06d}.pt"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for old in _all(folder)[:-keep]:
        old.unlink()
    return path


def load(folder: Path, iteration: int | None = None) -> dict[str, Any]:
    """The newest checkpoint, or that of an iteration. Raises FileNotFoundError if there is none."""
    paths = [path for path in _all(folder) if iteration is None or path.stem == f"iteration-{iteration:06d}"]
    if not paths:
        which = "no checkpoint" if iteration is None else f"no checkpoint of iteration {iteration}"
        raise FileNotFoundError(f"nothing to resume: {folder} holds {which}; start without --resume")
    return torch.load(paths[-1], map_location="cpu", weights_only=True)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("iteration-*.pt") if re.fullmatch(r"iteration-\d+", path.stem))
