"""What the world's own models are trained with: a log, and optimisers on a schedule."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from vgrpo.support.folders import require_folder

Log = Callable[..., None]
"""Takes figures by name."""
Say = Callable[[str], None]
"""Takes a line for a person who watches."""


def silent(text: str) -> None:
    return


@contextmanager
def new_model(folder: Path, index: str, say: Say) -> Iterator[Log]:
    """A folder for a model, and a function that says figures and adds them, with the seconds so far, to its pretrain.jsonl.

    Raises FileExistsError if the folder holds a model, told by its file `index`, another OSError if it cannot be written.
    """
    if (folder / index).exists():
        raise FileExistsError(f"--output-dir {folder} already holds a model; name another folder")
    require_folder(folder, "--output-dir")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (folder / "pretrain.jsonl").open("w") as file:

        def log(**record: object) -> None:
            record["seconds"] = round(time.perf_counter() - started, 1)
            line = json.dumps(record)
            file.write(line + "\n")
            file.flush()
            say(line)

        yield log


class Schedule:
    """Optimisers that step together, their learning rates warmed up over 100 steps and then lowered along a cosine."""

    def __init__(self, *optimizers: torch.optim.Optimizer, num_steps: int) -> None:
        self.optimizers = optimizers
        warmup = min(100, num_steps // 10 + 1)

        def factor(step: int) -> float:
            progress = (step - warmup) / max(1, num_steps - warmup)
            return (step + 1) / warmup if step < warmup else 0.01 + 0.495 * (1 + math.cos(math.pi * progress))

        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]

    def step(self) -> None:
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


def adamw(parameters: list[nn.Parameter], lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
