"""Trackers listen to a run and send on what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vgrpo.pages.frames import framed, sized
from vgrpo.pages.run_files import RunFiles, draws_hard_pixels
from vgrpo.support.secrets import redact
from vgrpo.training.record.events import Event, IterationDone, RunFinished, RunStopped, SamplesDrawn
from vgrpo.training.record.sinks import SINKS, Pictures, Sink

SIDE = 256  # pixels of a sample picture


class Tracker:
    """Sends a run's numbers, sample pictures and held-out scores to a sink. One that fails is told of and then left out: it is
    no reason to lose a run."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any], start: int, notice: Callable[[str], None]) -> None:
        self.name, self.notice = name, notice
        self.hard_pixels = draws_hard_pixels(settings)
        self.sink: Sink | None = SINKS[name](folder, start, settings, notice)
        self.sent, self.step = self.sink.sent, start
        """Steps up to `sent` were sent before the run was resumed."""
        self.drawn = -1

    def __call__(self, event: Event) -> None:
        if self.sink is None:
            return
        try:
            self._send(self.sink, event)
        except Exception as error:  # another library's code and another machine: it may stumble over anything
            self.sink = None
            self.notice(f"the tracker {self.name} failed and gets nothing more: {error!r}")

    def _send(self, sink: Sink, event: Event) -> None:
        match event:
            case IterationDone():
                self.step = event.iteration + 1
                if self.step > self.sent:
                    sink.numbers({name: value for name, value in event.values.items() if name != "iteration"}, self.step)
            case SamplesDrawn() if event.iteration > max(self.sent, self.drawn):  # the last ones are drawn twice
                self.drawn = event.iteration
                sink.pictures("samples", self._samples(event.folder), event.iteration)
            case RunFinished():
                if event.evaluation:
                    columns, rows = score_rows(event.evaluation)
                    sink.table("held-out scores", columns, rows, max(self.step, self.sent + 1))
                sink.close(finished=True)
            case RunStopped():
                sink.close(finished=False)

    def _samples(self, folder: Path) -> Pictures:
        """A row of images for every prompt, framed and marked as on the pages."""
        files, name = RunFiles(folder.parents[1]), f"samples/{folder.name}"
        prompts, verdicts = files.text(f"{name}/prompts.txt", 10**6).split("\n"), files.verdicts(name)
        rows = []
        for index in files.samples(name):
            images = [sized(image, SIDE, self.hard_pixels) for image in files.strip(f"{name}/{index:02d}.png")]
            rows.append((redact(prompts[index]), framed(images, dict(enumerate(verdicts)).get(index, []))))
        return rows


def score_rows(evaluation: dict[str, Any]) -> tuple[list[str], list[list[str | float | None]]]:
    """Held-out scores of the base and the tuned model as a table, by category and overall."""
    parts = [name for name in ("base", "tuned") if name in evaluation]
    metrics = [name for name in ("strict", "reward") if evaluation[parts[0]].get(name) is not None]
    columns = ["category", *(f"{metric}, {part}" for metric in metrics for part in parts)]
    rows: list[list[str | float | None]] = []
    for category in (*evaluation[parts[0]]["by_category"], "all"):
        found = [evaluation[part] if category == "all" else evaluation[part]["by_category"][category] for part in parts]
        rows.append([category, *(entry.get(metric) for metric in metrics for entry in found)])
    return columns, rows
