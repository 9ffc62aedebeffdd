"""metrics.jsonl, a line per iteration, as a kill or a full disk may have left it."""

from pathlib import Path

from vgrpo.support.files import write_whole
from vgrpo.support.json_files import parse_json, to_json
from vgrpo.training.events import Event, IterationDone, RunFinished, RunStopped, Values

NAME = "metrics.jsonl"


def read_metrics(folder: Path) -> tuple[list[Values], bool]:
    """The lines of a run, and whether the last was cut off and is left out.

    Raises ValueError for a broken line in the middle: that is damage, not a write that was interrupted.
    """
    path = folder / NAME
    if not path.exists():
        return [], False
    *lines, rest = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        values = parse_json(line.decode(errors="replace"), f"{path}, line {number}")
        if not isinstance(values, dict) or not isinstance(values.get("iteration"), int):
            raise ValueError(f"{path}, line {number}: not an iteration's numbers; delete that line")
        found.append(values)
    return found, bool(rest)


class MetricsFile:
    """A resumed run keeps the lines before the iteration that it goes on with."""

    def __init__(self, folder: Path, start: int) -> None:
        lines, self.torn = read_metrics(folder)
        self.past: list[Values] = [line for line in lines if line["iteration"] < start]
        write_whole(folder / NAME, "".join(to_json(line) + "\n" for line in self.past))
        self.file = (folder / NAME).open("a")

    def __call__(self, event: Event) -> None:
        if isinstance(event, IterationDone):
            self.file.write(to_json(event.values) + "\n")
            self.file.flush()
        elif isinstance(event, RunStopped | RunFinished):
            self.file.close()
