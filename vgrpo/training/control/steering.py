"""A run does what it is asked from outside (`vgrpo ctl`), between two iterations."""

import dataclasses
import json
import time
from collections.abc import Callable

from vgrpo.support.files import append_line
from vgrpo.support.interrupts import StopRequested
from vgrpo.support.json_files import to_json
from vgrpo.support.secrets import redact
from vgrpo.training.control.requests import Answer, Request, answer, clear, pending
from vgrpo.training.record.events import Steered
from vgrpo.training.rollouts.state import AS_LONG_AS_IT_TAKES
from vgrpo.training.run import Run, save_samples

LOG = "steering.jsonl"
"""What was asked of a run, when and why: a line for each request that was done."""
PAUSE = 0.5  # seconds between two looks while a run is paused


class Steering:
    """Reads a run's requests. What was asked of an earlier process in the folder is dropped.

    Of several processes the first alone reads and answers them; all carry them out.
    """

    def __init__(self, run: Run, sleep: Callable[[float], None] = time.sleep) -> None:
        self.run, self.sleep = run, sleep
        self.paused, self.reads = False, run.processes.rank == 0
        if self.reads:
            clear(run.folder)

    def obey(self) -> None:
        """Do all that is asked; while the run is paused, wait here. Raises StopRequested if asked to stop."""
        self._look()
        while self.paused:
            self.run.check()
            self.sleep(PAUSE)
            self._look()

    def _look(self) -> None:
        while (found := self._next()) is not None:
            name, request = found
            try:
                text = self._do(request)
            except Exception as error:
                if self.reads:
                    self._answer(name, f"failed: {error}", done=False)
                raise
            if self.reads:
                self._tell(request)
                self._answer(name, text, done=True)
            if request.command == "stop":
                raise StopRequested("vgrpo ctl or the workbench")

    def _next(self) -> tuple[str, Request] | None:
        """The first that waits and can be carried out, the same in every process. One at a time: a later one may be taken back
        while it waits."""
        fields = None
        for name, request in pending(self.run.folder) if self.reads else ():
            if isinstance(request, Request):
                fields = {"name": name, "request": dataclasses.asdict(request)}
                break
            self._answer(name, str(request), done=False)
        told = json.loads(self.run.processes.told(json.dumps(fields).encode()))
        return None if told is None else (told["name"], Request(**told["request"]))

    def _answer(self, name: str, text: str, *, done: bool) -> None:
        answer(self.run.folder, name, Answer(text=text, iteration=self.run.iteration, done=done))

    def _tell(self, request: Request) -> None:
        note, iteration = redact(request.note), self.run.iteration
        line = {"time": time.time(), "iteration": iteration, "command": request.command, "value": request.value, "note": note}
        append_line(self.run.folder / LOG, to_json(line))
        self.run.events.emit(Steered(command=request.command, iteration=iteration, value=request.value, note=note))

    def _do(self, request: Request) -> str:
        """Carry a request out; says what was done."""
        match request.command:
            case "pause":
                self.paused = True
                return "paused"
            case "resume":
                was, self.paused = self.paused, False
                return "goes on" if was else "was not paused, and goes on"
            case "checkpoint":
                path = self.run.save_checkpoint()
                self.run.writer.finish()
                return f"saved {path}"
            case "sample":
                self.run.ahead.close(AS_LONG_AS_IT_TAKES)  # rewards are asked by one thread at a time
                return f"drew {save_samples(self.run)}"
            case "stop":
                return "stops; `vgrpo train` with --resume goes on"
            case "lr":
                return self._change_lr(request)

    def _change_lr(self, request: Request) -> str:
        """Saved at once: a run that is killed before its next checkpoint then goes on with the new rate."""
        assert request.value is not None
        before = self.run.optimizer.lr
        self.run.set_lr(request.value)
        self.run.save_checkpoint()
        return f"learning rate {before:g} -> {request.value:g}"
