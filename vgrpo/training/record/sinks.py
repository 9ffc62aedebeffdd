"""Where a run's numbers, pictures and tables can be sent: TensorBoard, Weights & Biases, trackio.

Step n is the state after n iterations, as in the names of samples and checkpoints. A run that goes on from iteration n
continues its curves: TensorBoard is told to forget what came after n, and the others, which cannot forget, are not sent it a
second time; `trackers/NAME.json` in the run's folder says which of their runs this is and how far it was sent.
"""

import importlib.util
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vgrpo.core.images import from_pil
from vgrpo.support.checks import require
from vgrpo.support.files import write_whole
from vgrpo.support.json_files import read_json, to_json

PROJECT = "vgrpo"  # where a tracker sorts runs by project; WANDB_PROJECT names another
Pictures = list[tuple[str, Image.Image]]
"""Each with its caption."""
Rows = Sequence[Sequence[str | float | None]]


class Sink(Protocol):
    sent: int
    """The last step that is known there, -1 if none is; it and those before are not sent again."""

    def numbers(self, values: dict[str, float], step: int) -> None: ...

    def pictures(self, name: str, pictures: Pictures, step: int) -> None: ...

    def table(self, name: str, columns: list[str], rows: Rows, step: int) -> None: ...

    def close(self, *, finished: bool) -> None: ...


def check_installed(name: str) -> None:
    """Raise ValueError if a tracker's package is not there."""
    require(
        importlib.util.find_spec(name) is not None,
        f'trackers={name}, but it is not installed: pip install "vgrpo[{name}]", or leave it out',
    )


class TensorBoard:
    """Event files under tensorboard/."""

    def __init__(self, folder: Path, start: int, settings: dict[str, Any], notice: Callable[[str], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.sent = start if start else -1
        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)

    def numbers(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def pictures(self, name: str, pictures: Pictures, step: int) -> None:
        for index, (caption, picture) in enumerate(pictures):
            self.writer.add_image(f"{name}/{index:02d} {caption[:60]}", from_pil(picture), step)

    def table(self, name: str, columns: list[str], rows: Rows, step: int) -> None:
        lines = [columns, ["---"] * len(columns), *[[_cell(value) for value in row] for row in rows]]
        self.writer.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)

    def close(self, *, finished: bool) -> None:
        self.writer.close()


class Remembered:
    """What a run's folder knows of a tracker that keeps its data elsewhere."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / "trackers" / f"{name}.json"
        known = read_json(self.path) if self.path.is_file() else {}
        self.known = bool(known)
        self.id: str = str(known.get("id") or secrets.token_hex(4))
        self.sent = int(known.get("sent", -1))

    def remember(self, step: int) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_whole(self.path, to_json({"id": self.id, "sent": step}) + "\n")


class WandB:
    """A run of Weights & Biases, online or offline as WANDB_MODE says."""

    def __init__(self, folder: Path, start: int, settings: dict[str, Any], notice: Callable[[str], None]) -> None:
        import wandb

        self.memory = Remembered(folder, "wandb")
        self.sent = self.memory.sent
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        try:
            self.run: Any = wandb.init(
                project=project,
                id=self.memory.id,
                name=folder.resolve().name,
                dir=str(folder),
                config=settings,
                resume="allow" if self.memory.known else None,
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise ValueError(f"trackers=wandb: {error}; log in with `wandb login`, or set WANDB_MODE=offline") from error
        self.images, self.tables = wandb.Image, wandb.Table
        self.memory.remember(self.sent)
        url = None if self.run.offline else self.run.url  # asked offline, it warns that there is none
        notice(f"wandb: {url or f'offline, under {folder}/wandb; send it with `wandb sync`'}")

    def numbers(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)
        self.memory.remember(step)

    def pictures(self, name: str, pictures: Pictures, step: int) -> None:
        self.run.log({name: [self.images(picture, caption=caption) for caption, picture in pictures]}, step=step)

    def table(self, name: str, columns: list[str], rows: Rows, step: int) -> None:
        self.run.log({name: self.tables(columns=columns, data=[list(row) for row in rows])}, step=step)

    def close(self, *, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


class Trackio:
    """A run of trackio, on this machine or where its own variables (TRACKIO_SPACE_ID) say."""

    def __init__(self, folder: Path, start: int, settings: dict[str, Any], notice: Callable[[str], None]) -> None:
        import trackio

        self.memory, self.trackio = Remembered(folder, "trackio"), trackio
        self.sent = self.memory.sent
        with redirect_stdout(sys.stderr):
            self.run: Any = trackio.init(
                project=PROJECT,
                name=f"{folder.resolve().name}-{self.memory.id}",
                config=settings,
                resume="allow" if self.memory.known else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self.memory.remember(self.sent)
        notice(f"trackio: project {PROJECT}; see it with `trackio show --project {PROJECT}`")

    def numbers(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)
        self.memory.remember(step)

    def pictures(self, name: str, pictures: Pictures, step: int) -> None:
        images = {
            f"{name}/{index:02d}": self.trackio.Image(picture, caption=caption)
            for index, (caption, picture) in enumerate(pictures)
        }
        self.run.log(images, step=step)

    def table(self, name: str, columns: list[str], rows: Rows, step: int) -> None:
        self.run.log({name: self.trackio.Table(columns=columns, data=[list(row) for row in rows])}, step=step)

    def close(self, *, finished: bool) -> None:
        with redirect_stdout(sys.stderr):
            self.run.finish()


SINKS: dict[str, Callable[[Path, int, dict[str, Any], Callable[[str], None]], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


def _cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value:.3f}"
