"""Requests to a run from outside: small files in its folder, which it reads between iterations and answers.

`control/request-ID.json` is a request, `control/answer-ID.json` its answer. Both appear whole. Whoever can write the folder can
steer the run, and nobody else.
"""

import dataclasses
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vgrpo.support.checks import TINY, require
from vgrpo.support.json_files import parse_json, write_json
from vgrpo.support.lock import holder_of
from vgrpo.training.checkpoints.resume import state_of

FOLDER = "control"
Command = Literal["pause", "resume", "checkpoint", "sample", "stop", "lr"]
COMMANDS: tuple[str, ...] = get_args(Command)
MOST_LR, MOST_NOTE, MOST_BYTES = 1000.0, 500, 10_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked to do. Raises ValueError for what cannot be asked."""

    command: Command
    value: float | None = None
    """The new learning rate of `lr`; the others take none."""
    note: str = ""
    """Why, for the run's log."""

    def __post_init__(self) -> None:
        require(self.command in COMMANDS, f"{str(self.command)[:40]!r}: a run can be asked to {', '.join(COMMANDS)}")
        require(isinstance(self.note, str) and len(self.note) <= MOST_NOTE, f"note: a text of at most {MOST_NOTE} characters")
        if self.command != "lr":
            require(self.value is None, f"{self.command} {self.value}: only lr takes a value; leave it out")
            return
        known = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        fits = self.value is not None and known and TINY <= self.value <= MOST_LR
        require(fits, f"lr {self.value}: must be a learning rate above 0, at most {MOST_LR:g}, as in: lr 1e-4")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a run made of a request."""

    text: str
    iteration: int
    """How many were complete."""
    done: bool
    """False if it was refused."""


def at_work(folder: Path) -> Path:
    """The folder in which a process is at work: of a curriculum, its stage's. Raises ValueError if there is none."""
    if state_of(folder) == "fresh":
        raise ValueError(f"{folder} holds no run; name a run's folder, such as runs/demo")
    for place in (*folder.glob("stage-*"), folder):
        if holder_of(place) is not None:
            return place
    if state_of(folder) == "finished":
        raise ValueError(f"the run in {folder} is finished; a larger --num-iterations goes on with it")
    raise ValueError(f"no process works in {folder}; go on with it: vgrpo train {folder}/config.yaml --resume")


def send(folder: Path, request: Request) -> str:
    """Leave a request in a run's folder; returns its name, for `answer_to`. Raises ValueError where that leads elsewhere."""
    require(
        not (folder / FOLDER).is_symlink(), f"{folder / FOLDER} is a link; delete it, requests go into the run's own folder"
    )
    (folder / FOLDER).mkdir(exist_ok=True)
    name = f"{time.time_ns():020d}-{secrets.token_hex(3)}"
    write_json(_request(folder, name), dataclasses.asdict(request))
    return name


def pending(folder: Path) -> Iterator[tuple[str, Request | ValueError]]:
    """Names of the requests that wait, in the order they came, each with the request or with what is wrong with it."""
    for path in sorted((folder / FOLDER).glob("request-*.json")):
        try:
            found: Request | ValueError = Request(**_fields(path))
        except (ValueError, TypeError, OSError) as error:
            found = ValueError(f"no request that can be read: {error}")
        yield path.stem.removeprefix("request-"), found


def answer(folder: Path, name: str, reply: Answer) -> None:
    """Say what became of a request, which is then gone."""
    write_json(folder / FOLDER / f"answer-{name}.json", dataclasses.asdict(reply))
    _request(folder, name).unlink(missing_ok=True)


def answer_to(folder: Path, name: str) -> Answer | None:
    """The answer to a request, which is then gone; None as long as there is none."""
    path = folder / FOLDER / f"answer-{name}.json"
    if not path.exists():
        return None
    found = Answer(**_fields(path))
    path.unlink(missing_ok=True)
    return found


def reply_to(folder: Path, name: str) -> Answer | None:
    """The answer to a request, None while it waits. Raises ValueError if the run ended before it read it, or dropped it."""
    found = answer_to(folder, name)
    if found is not None:
        return found
    # A request stays until its answer is there. One that came while the run began is dropped without an answer.
    alive = holder_of(folder) is not None
    if alive and _request(folder, name).exists():
        return None
    if (found := answer_to(folder, name)) is None:
        withdraw(folder, name)
        what = "was beginning and dropped the request; ask again" if alive else "ended before it read the request"
        raise ValueError(f"the run in {folder} {what}")
    return found


def withdraw(folder: Path, name: str) -> bool:
    """Take a request back; whether it was still there."""
    try:
        _request(folder, name).unlink()
    except FileNotFoundError:
        return False
    return True


def clear(folder: Path) -> None:
    """Drop what was asked of an earlier process and never read, and answers that nobody waited for. A folder that is a link is
    let go: the files behind it are not a run's."""
    place = folder / FOLDER
    if place.is_symlink():
        place.unlink()
    for kind in ("request", "answer"):
        for path in place.glob(f"{kind}-*.json"):
            path.unlink(missing_ok=True)


def _request(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"request-{name}.json"


def _fields(path: Path) -> dict[str, Any]:
    """A small regular file's JSON object. Raises ValueError for anything else."""
    require(path.is_file() and not path.is_symlink(), f"{path.name} is no file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    require(len(data) <= MOST_BYTES, f"{path.name} is larger than {MOST_BYTES} bytes")
    found = parse_json(data.decode(errors="replace"), path.name)
    require(isinstance(found, dict), f"{path.name} is no JSON object")
    return found
