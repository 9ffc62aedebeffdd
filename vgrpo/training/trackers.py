"""Listeners that write a run's numbers down: metrics.jsonl and TensorBoard."""

import json
from pathlib import Path
from typing import Any

from vgrpo.training.events import Event, IterationDone, RunFinished, RunStopped, Values


class MetricsFile:
    """metrics.jsonl, a line per iteration. A resumed run keeps the lines before the iteration it goes on with."""

    def __init__(self, folder: Path, start: int) -> None:
        path = folder / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.past: list[Values] = [line for line in lines if line["iteration"] < start]
        path.write_text("".join(json.dumps(line) + "\n" for line in self.past))
        self.file = path.open("a")

    def __call__(self, event: Event) -> None:
        if isinstance(event, IterationDone):
            self.file.write(json.dumps(event.values) + "\n")
            self.file.flush()
        elif isinstance(event, RunStopped | RunFinished):
            self.file.close()


class TensorBoard:
    """The same numbers as curves under tensorboard/."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError('tensorboard=True, but it is not installed; pip install "vgrpo[tensorboard]"') from error
        self.writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, event: Event) -> None:
        if isinstance(event, IterationDone):
            for name, value in event.values.items():
                self.writer.add_scalar(name, value, event.iteration)
        elif isinstance(event, RunStopped | RunFinished):
            self.writer.close()
