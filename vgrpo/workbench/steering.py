"""What a page asks of a run that goes on, by the same requests as `vgrpo ctl`, and what became of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from vgrpo.pages.run_files import RunFiles, number
from vgrpo.support.files import CAUSES
from vgrpo.training.control.requests import Request, at_work, reply_to, send, withdraw
from vgrpo.workbench.runs import Run, shown

MOST_ASKED, MOST_LINES = 20, 100
"""Of a run's requests, and of the lines of its log, that are shown."""


@dataclass(kw_only=True)
class Asked:
    """A request of this server's, and its answer."""

    name: str
    request: Request
    time: float
    state: str = "waiting"
    """waiting, done, refused, or withdrawn."""
    text: str = ""

    def entry(self) -> dict[str, Any]:
        request = self.request
        told = {"command": request.command, "value": request.value, "note": shown(request.note)}
        return {"name": self.name, "time": self.time, "state": self.state, "text": shown(self.text), **told}


@dataclass(kw_only=True)
class Desk:
    """Remembers what was asked of which run, as long as the server lives."""

    clock: Callable[[], float] = time.time
    _asked: dict[str, list[Asked]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def ask(self, run: Run, content: dict[str, Any]) -> None:
        """Leave a request in the folder. Raises ValueError for what cannot be asked, or not of this run now, OSError for
        a folder that cannot be written."""
        fields = {name: content[name] for name in ("command", "value", "note") if content.get(name) is not None}
        request = Request(**({"command": ""} | fields))
        self._refuse(run)
        name = send(run.folder, request)
        with self._lock:
            asked = self._asked.setdefault(run.id, [])
            asked.append(Asked(name=name, request=request, time=self.clock()))
            del asked[:-MOST_ASKED]

    def take_back(self, run: Run, name: str) -> None:
        """Raises ValueError if the run has read it by now."""
        for each in self._asked.get(run.id, []):
            if each.name == name and each.state == "waiting":
                if not withdraw(run.folder, name):
                    raise ValueError("the run has read this request by now; its answer comes at once")
                each.state, each.text = "withdrawn", "taken back before the run read it"

    def state(self, run: Run) -> dict[str, Any]:
        """Whether the run can be asked and why not, whether it pauses, what was asked, and its log."""
        with self._lock:
            asked = self._asked.get(run.id, [])
            for each in asked:
                if each.state == "waiting":
                    self._look(run, each)
        lines = log_of(run.files())
        try:
            self._refuse(run)
            why = ""
        except ValueError as error:
            why = str(error)
        paused = next((line["command"] == "pause" for line in reversed(lines) if line["command"] in ("pause", "resume")), False)
        return {"why": shown(why), "paused": paused and not why, "asked": [each.entry() for each in asked], "log": lines}

    def _refuse(self, run: Run) -> None:
        """Raises ValueError unless a process is at work in this very folder."""
        if at_work(run.folder) != run.folder:
            raise ValueError(f"{run.folder} is at work in one of its stages; steer that one")

    def _look(self, run: Run, asked: Asked) -> None:
        try:
            reply = reply_to(run.folder, asked.name)
        except (ValueError, TypeError) as error:
            asked.state, asked.text = "refused", str(error)
            return
        if reply is not None:
            asked.state = "done" if reply.done else "refused"
            asked.text = f"{reply.text}, after iteration {reply.iteration}"


def log_of(files: RunFiles) -> list[dict[str, Any]]:
    """The newest lines of steering.jsonl, as a page can show them."""
    return [
        {
            "time": number(line.get("time")) or 0.0,
            "iteration": number(line.get("iteration")),
            "command": shown(line.get("command")),
            "value": number(line.get("value")),
            "note": shown(line.get("note")),
        }
        for line in files.steered()[-MOST_LINES:]
    ]


def cause(error: OSError) -> str:
    """Why a folder cannot be written, for a person."""
    return CAUSES.get(error.errno or 0, (error.strerror or str(error), ""))[0]
