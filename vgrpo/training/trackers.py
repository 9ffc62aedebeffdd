"""A tracker that listens to a run: TensorBoard."""

from pathlib import Path
from typing import Any

from vgrpo.training.events import Event, IterationDone, RunFinished, RunStopped


def check_tensorboard() -> None:
    """Raise ValueError if it is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ValueError('tensorboard=True, but it is not installed; pip install "vgrpo[tensorboard]"') from error


class TensorBoard:
    """The same numbers as curves under tensorboard/."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, event: Event) -> None:
        if isinstance(event, IterationDone):
            for name, value in event.values.items():
                self.writer.add_scalar(name, value, event.iteration)
        elif isinstance(event, RunStopped | RunFinished):
            self.writer.close()
