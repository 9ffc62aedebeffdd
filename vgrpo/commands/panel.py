"""The live panel of a run in a terminal: what it is at, how long that takes, how the reward goes, the last alarm."""

from collections.abc import Sequence
from itertools import pairwise

from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vgrpo.commands.screen import Console, ConsoleOptions, RenderResult
from vgrpo.commands.timing import Timing, spelled

WIDTH = 80
BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*%#"  # from low to high; the second for terminals without Unicode
NAMES = {
    "evaluation of the base model": "evaluating base",
    "evaluation on the way": "evaluating",
    "evaluation of the tuned model": "evaluating tuned",
}
SHOWN = {"rollout": "drawing", "reward": "judging", "update": "updating", "samples": "drawing samples"} | NAMES
LONGEST, RIGHT = 17, 18  # characters of a phase's name, and of a time


class RunPanel:
    """What a run's events came to; it is drawn anew several times a second, so that bars move between events."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.begin("")

    def begin(self, title: str) -> None:
        """Another run, such as a curriculum's next stage."""
        self.title = title
        self.rewards: list[float] = []
        self.now = ""
        """Reward, parts and speed, in words."""
        self.alarm = ""
        self.paused = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(WIDTH, options.max_width)
        table = Table.grid(padding=(0, 1))
        middle = max(8, width - LONGEST - RIGHT - 6)  # without two spaces, two borders, and their padding
        table.add_column(width=LONGEST, no_wrap=True, overflow="crop")
        table.add_column(width=middle, no_wrap=True, overflow="crop")
        table.add_column(width=RIGHT, no_wrap=True, justify="right")
        timing = self.timing
        plain = options.ascii_only
        start = f"from {self.rewards[0]:.3f}" if self.rewards else ""
        table.add_row("reward", Text(sparkline(self.rewards, middle, PLAIN if plain else BLOCKS), "cyan"), start)
        count = f"{timing.iteration}/{timing.num_iterations}"
        bar = ProgressBar(max(1, timing.num_iterations), timing.iteration)
        table.add_row(f"iteration {count}", bar, _left(timing.left))
        table.add_row(*self._phase())
        alarm = Text(f"alarm: {self.alarm}", "bold red") if self.alarm else Text("no alarm", "dim")
        now = Text(self.now)
        for line in (now, alarm):
            line.no_wrap, line.overflow = True, "crop"  # an ellipsis is no ASCII
        yield Panel(
            _stacked(table, now, alarm),
            title=Text(_shortened(self.title, width - 8)),
            title_align="left",
            width=width,
        )

    def _phase(self) -> tuple[Text, ProgressBar | Text, str]:
        """Its name, a bar by its time, and the time left or, while that is not known, the time so far."""
        timing = self.timing
        if self.paused:
            return Text("paused", "yellow"), Text("vgrpo ctl RUN resume goes on"), ""
        if timing.phase is None:
            return Text("-"), Text(""), ""
        name = SHOWN.get(timing.phase, timing.phase)
        share, left = timing.phase_share, timing.phase_left
        if share is None:
            return Text(name), ProgressBar(100, 0), f"{spelled(timing.phase_seconds)} so far"
        return Text(name), ProgressBar(1.0, share), _left(left)


def sparkline(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """A curve of at most `width` characters; where there are more values, each stands for the mean of several. The lowest is
    the first of `blocks` and the highest the last."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    if span <= 0:
        return blocks[0] * count
    return "".join(blocks[min(len(blocks) - 1, int((mean - low) / span * len(blocks)))] for mean in means)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{spelled(seconds)} left"


def _shortened(text: str, width: int) -> str:
    """The end of a long path tells runs apart."""
    return text if len(text) <= width else f"...{text[-(width - 3) :]}"


def _stacked(*rows: Table | Text) -> Table:
    grid = Table.grid()
    for row in rows:
        grid.add_row(row)
    return grid
