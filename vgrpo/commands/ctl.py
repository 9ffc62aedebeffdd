"""`vgrpo ctl`: steer a run that goes on."""

import sys
import time
from pathlib import Path

from vgrpo.commands.options import HelpShown, asks_for_help, take_option
from vgrpo.commands.words import UsageError
from vgrpo.support.numbers import plain_number
from vgrpo.training.control.requests import COMMANDS, Answer, Request, at_work, reply_to, send, withdraw

USAGE = "vgrpo ctl RUN_DIR pause|resume|checkpoint|sample|stop|lr VALUE [--note TEXT] [--timeout SECONDS]"
HELP = """
Steer a run from another terminal. The run looks for requests between iterations.

  pause        wait after this iteration, until `resume`; the memory stays taken
  resume       go on
  checkpoint   save one now
  sample       draw the sample pictures now
  stop         save and end after this iteration; `vgrpo train --resume` goes on
  lr VALUE     another learning rate, before warm-up and decay; a resumed run keeps it

--note says why, for steering.jsonl in the run's folder and its report. --timeout is how long to wait for the answer (600 s).
"""
TIMEOUT, PATIENCE, STEP = 600.0, 2.0, 0.1  # seconds: to wait in all, until that is said, between two looks


def run(words: list[str]) -> None:
    if asks_for_help(words):
        print(f"usage: {USAGE}\n{HELP}", end="")
        raise HelpShown
    words, note = take_option(words, "--note")
    words, text = take_option(words, "--timeout")
    timeout = TIMEOUT if text is None else plain_number(text)
    if timeout is None or not 0 <= timeout <= 1e6:
        raise UsageError(f"--timeout {text}: give seconds, from 0 to 1,000,000")
    folder, request = _asked(words, note or "")
    folder = at_work(folder)
    found = _wait(folder, send(folder, request), timeout)
    if not found.done:
        raise ValueError(found.text)
    print(f"{found.text}, after iteration {found.iteration}")


def _asked(words: list[str], note: str) -> tuple[Path, Request]:
    if len(words) < 2 or any(word.startswith("--") for word in words):
        raise UsageError(f"name one run's folder and what it shall do: {USAGE}")
    folder, command, *values = words
    if len(values) > 1:
        raise UsageError(f"{' '.join(values)!r}: at most one value, of lr: {USAGE}")
    value = plain_number(values[0]) if values else None
    if command not in COMMANDS or (values and value is None):
        raise UsageError(f"{' '.join((command, *values))!r} is nothing that a run does: {USAGE}")
    try:
        return Path(folder), Request(command=command, value=value, note=note)  # type: ignore[arg-type]  # checked there
    except ValueError as error:
        raise UsageError(str(error)) from None


def _wait(folder: Path, name: str, timeout: float) -> Answer:
    """Raises TimeoutError if no answer comes in time, ValueError if the run ends before it read the request, or dropped it."""
    began, told = time.monotonic(), False
    while (found := reply_to(folder, name)) is None:
        waited = time.monotonic() - began
        if waited >= timeout and withdraw(folder, name):
            raise TimeoutError(
                f"no answer within {timeout:g} s, so the request is taken back: the run reads requests between iterations, and "
                "is in a long one, or in an evaluation; a larger --timeout waits longer"
            )
        if waited >= PATIENCE and not told:
            print("the run answers when its iteration, or its evaluation, ends", file=sys.stderr)
            told = True
        time.sleep(STEP)
    return found
