"""A run as a person sees it in a terminal: a live panel, or plain lines where there is no terminal; the closing table."""

import re
import time
from collections.abc import Callable

from rich.live import Live
from rich.text import Text

from vgrpo.commands.panel import RunPanel
from vgrpo.commands.screen import Screen
from vgrpo.commands.tables import results_table
from vgrpo.commands.timing import Timing, spelled
from vgrpo.training.record.events import (
    AlarmRaised,
    Event,
    IterationDone,
    Noticed,
    PhaseAdvanced,
    PhaseBegan,
    RunFinished,
    RunStarted,
    RunStopped,
    Steered,
    Values,
)

QUIET_PHASES = ("loading the model", "rollout", "reward", "update", "samples")
"""These have no line of their own: loading has the libraries' bars, and the others come often."""
PART = re.compile(r"reward/.+/mean")
WORTH_SAYING = 1.0  # seconds that training waited
LINES_EVERY, SECONDS = 5, 30.0  # without a terminal, a line after so many iterations, or after so long


class RunConsole:
    """Shows a run's events: iteration, reward now and at the start, images/s, phases, time left."""

    def __init__(self, console: Screen | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console or Screen(), clock
        self.timing = Timing(clock)
        self.panel = RunPanel(self.timing)
        self.live = Live(self.panel, console=self.console, refresh_per_second=4)
        self.recent: float | None = None
        self.waited = 0.0
        self._told = clock()  # when the last line about progress came
        self._announced = ""  # the evaluation whose duration was told

    def __call__(self, event: Event) -> None:
        self.timing.hear(event)
        match event:
            case RunStarted():
                self._begin(event)
            case PhaseBegan() if event.name not in QUIET_PHASES:
                self._announced, self._told = "", self.clock()
                self.say(f"{event.name}" + (f", {event.detail}" if event.detail else ""))
            case PhaseAdvanced():
                self._advanced(event)
            case IterationDone():
                self._iteration(event)
            case AlarmRaised():
                self.panel.alarm = f"{event.monitor} falls while the reward is up, iteration {event.iteration + 1}"
                self.console.print(Text.assemble(("alarm", "bold red"), f": {self.panel.alarm}"))
            case Steered():
                self._steered(event)
            case Noticed():
                self.say(event.text)
            case RunStopped():
                self._stopped(event)
            case RunFinished():
                self._finished(event)

    def say(self, text: str) -> None:
        self.console.print(text)

    def close(self) -> None:
        """Give the terminal back, however the run ended."""
        self.live.stop()

    def _begin(self, event: RunStarted) -> None:
        self.recent, self.waited = None, 0.0
        self.panel.begin(str(event.folder))
        for values in event.past:
            self._track(values)
        self.say(f"run folder {event.folder}")
        if self.console.is_terminal:
            self.live.start()

    def _track(self, values: Values) -> None:
        reward = values.get("reward/mean")
        if reward is None or reward != reward:  # null in metrics.jsonl: nothing was judged
            return
        self.panel.rewards.append(reward)
        self.recent = reward if self.recent is None else 0.8 * self.recent + 0.2 * reward

    def _iteration(self, event: IterationDone) -> None:
        self._track(event.values)
        self.waited += event.values["seconds/checkpoint"]
        reward = "none" if self.recent is None else f"{self.recent:.3f} (start {self.panel.rewards[0]:.3f})"
        speed = f"{event.values['images_per_second']:.3g} images/s"
        self.panel.now = f"reward {reward}{_parts(event.values)}  {speed}"
        number, total = event.iteration + 1, self.timing.num_iterations
        if not self.console.is_terminal and (number % LINES_EVERY == 0 or self._is_due()):
            left = self.timing.left
            self._told = self.clock()
            self.say(f"iteration {number}/{total}  {self.panel.now}" + ("" if left is None else f"  {spelled(left)} left"))

    def _advanced(self, event: PhaseAdvanced) -> None:
        """How long an evaluation takes is said once its first images are there; without a terminal so is how far a long phase
        is."""
        left = self.timing.phase_left
        if left is None or not event.done:
            return
        is_new = event.name not in (*QUIET_PHASES, self._announced)
        if is_new:
            self._announced = event.name
            whole = self.timing.phase_seconds + left
            self.say(f"{event.name}: about {spelled(whole)} in all, {spelled(left)} left")
        elif not self.console.is_terminal and self._is_due():
            self.say(f"{event.name}: {event.done}/{event.total}, {spelled(left)} left")
        else:
            return
        self._told = self.clock()

    def _is_due(self) -> bool:
        return self.clock() - self._told >= SECONDS

    def _steered(self, event: Steered) -> None:
        self.panel.paused = event.command == "pause" or (self.panel.paused and event.command != "resume")
        value = "" if event.value is None else f" {event.value:g}"
        note = f": {event.note}" if event.note else ""
        self.say(f"asked for {event.command}{value} after iteration {event.iteration}{note}")

    def _stopped(self, event: RunStopped) -> None:
        self.live.stop()
        kept = f"{event.checkpoint} holds everything so far" if event.checkpoint else "the last checkpoint holds what was saved"
        self.say(f"\nstopped; {kept}. Go on with\n  vgrpo train {event.folder}/config.yaml --resume")

    def _finished(self, event: RunFinished) -> None:
        self.live.stop()
        if self.panel.now and not self.console.is_terminal:
            self.say(f"iteration {self.timing.iteration}/{self.timing.num_iterations}  {self.panel.now}")
        if event.evaluation:
            self.console.print(results_table(event.evaluation))
        report = event.folder / "report.html"
        self.say(f"weights  {event.weights}" + (f"\nreport   {report}" if report.is_file() else ""))
        if self.waited >= WORTH_SAYING:
            self.say(f"training waited {self.waited:.1f} s for checkpoints to be copied and written")


def _parts(values: Values) -> str:
    """What the rewards of several scored in an iteration, before their weights: `, ocr 0.412, pickscore 0.853`."""
    named = {
        name.removeprefix("reward/").removesuffix("/mean"): value for name, value in values.items() if PART.fullmatch(name)
    }
    return "".join(f", {name} {value:.3g}" for name, value in named.items() if value == value)
