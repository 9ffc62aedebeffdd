"""A run as a person sees it in a terminal: progress, alarms, the closing table."""

import re

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vgrpo.commands.screen import Screen
from vgrpo.commands.tables import results_table
from vgrpo.training.events import (
    AlarmRaised,
    Event,
    IterationDone,
    Noticed,
    PhaseBegan,
    RunFinished,
    RunStarted,
    RunStopped,
    Values,
)

QUIET_PHASES = ("rollout", "reward", "update")  # of every iteration; the bar shows them well enough
PART = re.compile(r"reward/.+/mean")
LINES_EVERY = 5  # iterations, where there is no terminal to redraw


class RunConsole:
    """Shows a run's events: iteration, reward now and at the start, images/s, time left."""

    def __init__(self, console: Screen | None = None) -> None:
        self.console = console or Screen()
        self.first: float | None = None
        self.recent: float | None = None
        self.waited = 0.0
        self.total, self.task = 0, TaskID(0)
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self.console,
        )

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin(event)
            case PhaseBegan() if event.name not in QUIET_PHASES:
                self.say(f"{event.name}" + (f", {event.detail}" if event.detail else ""))
            case IterationDone():
                self._iteration(event)
            case AlarmRaised():
                what = f": {event.monitor} falls while the reward is up, iteration {event.iteration + 1}"
                self.console.print(Text.assemble(("alarm", "bold red"), what))
            case Noticed():
                self.say(event.text)
            case RunStopped():
                self._stopped(event)
            case RunFinished():
                self._finished(event)

    def say(self, text: str) -> None:
        self.console.print(text)

    def _begin(self, event: RunStarted) -> None:
        self.first, self.recent, self.waited = None, None, 0.0
        for old in self.progress.task_ids:  # of the stage before, in a curriculum
            self.progress.remove_task(old)
        for values in event.past:
            self._track(values)
        self.say(f"run folder {event.folder}")
        self.total = event.config.num_iterations
        self.progress.start()
        self.task = self.progress.add_task("train", total=self.total, completed=event.iteration, status="")

    def _track(self, values: Values) -> None:
        reward = values.get("reward/mean")
        if reward is None or reward != reward:  # null in metrics.jsonl: nothing was judged
            return
        self.first = reward if self.first is None else self.first
        self.recent = reward if self.recent is None else 0.8 * self.recent + 0.2 * reward

    def _iteration(self, event: IterationDone) -> None:
        self._track(event.values)
        self.waited += event.values["seconds/checkpoint"]
        reward = "none" if self.recent is None else f"{self.recent:.3f} (start {self.first:.3f})"
        status = f"reward {reward}{_parts(event.values)}  {event.values['images_per_second']:.0f} images/s"
        self.progress.update(self.task, advance=1, status=status)
        number = event.iteration + 1
        if not self.console.is_terminal and number % LINES_EVERY == 0:
            self.say(f"iteration {number}/{self.total}  {status}")

    def _stopped(self, event: RunStopped) -> None:
        self.progress.stop()
        kept = f"{event.checkpoint} holds everything so far" if event.checkpoint else "the last checkpoint holds what was saved"
        self.say(f"\nstopped; {kept}. Go on with\n  vgrpo train {event.folder}/config.yaml --resume")

    def _finished(self, event: RunFinished) -> None:
        self.progress.stop()
        if event.evaluation:
            self.console.print(results_table(event.evaluation))
        self.say(f"weights  {event.weights}\nreport   {event.report}")
        self.say(f"training waited {self.waited:.1f} s for checkpoints to be copied and written")


def _parts(values: Values) -> str:
    """What the rewards of several scored in an iteration, before their weights: `, ocr 0.412, pickscore 0.853`."""
    named = {
        name.removeprefix("reward/").removesuffix("/mean"): value for name, value in values.items() if PART.fullmatch(name)
    }
    return "".join(f", {name} {value:.3g}" for name, value in named.items() if value == value)
