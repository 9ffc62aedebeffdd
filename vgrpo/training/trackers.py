"""Listeners that write a run's numbers down: metrics.jsonl and TensorBoard."""

from pathlib import Path
from typing import Any

from vgrpo.support.files import write_whole
from vgrpo.support.json_files import line_of, read_lines
from vgrpo.training.events import Event, IterationDone, RunFinished, RunStopped, Values


class MetricsFile:
    """metrics.jsonl, a line per iteration. A resumed run keeps the lines before the iteration it goes on with."""

    def __init__(self, folder: Path, start: int) -> None:
        path = folder / "metrics.jsonl"
        lines, self.torn = read_lines(path)
        self.past: list[Values] = [line for line in lines if line["iteration"] < start]
        write_whole(path, "".join(line_of(line) for line in self.past))
        self.file = path.open("a")

    def __call__(self, event: Event) -> None:
        if isinstance(event, IterationDone):
            self.file.write(line_of(event.values))
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
