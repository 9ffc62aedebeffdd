"""The faults. Each takes a job and a random generator, harms the job in its own way, checks how it takes that, and leaves it to
be finished."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from chaos_jobs import Job, Process

RESUMABLE, INTERRUPTED = 75, 130
Fault = Callable[[Job, Random, float], None]
"""The number is how many seconds an undisturbed job computes."""


def ends(process: Process, *allowed: int) -> int:
    status = process.wait()
    last = process.output.strip().splitlines()[-1:] or ["nothing was printed"]
    assert status in allowed, f"status {status} is none of {allowed}: {last[0]}"
    return status


def says(process: Process, *words: str) -> None:
    assert any(word in process.output for word in words), f"{process.log} says none of {words}: {process.output[-300:]!r}"


# Kills and signals --------------------------------------------------------------------------------------------------------


def killed(job: Job, random: Random, cost: float) -> None:
    """kill -9, up to three times in a row."""
    for number in range(random.randint(1, 3)):
        process = job.start(resume=number > 0, checkpoint_every=random.choice((1, 2, 100)))
        process.wait_until(random.uniform(0, 1.05 * cost))
        process.send(signal.SIGKILL)
        ends(process, 0, -signal.SIGKILL)


def killed_at_a_file(job: Job, random: Random, cost: float) -> None:
    """kill -9 at one of the moments at which a file is opened for writing, renamed or deleted."""
    for number in range(random.randint(1, 2)):
        at = random.randint(1, 90)
        process = job.start(lambda at=at: _at_file(job.run, at, signal.SIGKILL), resume=number > 0)
        ends(process, 0, -signal.SIGKILL)


def signalled_at_a_file(job: Job, random: Random, cost: float) -> None:
    """SIGTERM or SIGINT at such a moment."""
    number, at = random.choice((signal.SIGTERM, signal.SIGINT)), random.randint(1, 90)
    process = job.start(lambda: _at_file(job.run, at, number))
    ends(process, 0, RESUMABLE, -number, INTERRUPTED)


def asked_to_stop(job: Job, random: Random, cost: float) -> None:
    """SIGTERM, SIGINT or SIGUSR1: the state after the last whole iteration is saved."""
    number = random.choice((signal.SIGTERM, signal.SIGINT, signal.SIGUSR1))
    process = job.start(checkpoint_every=100)
    process.wait_until(random.uniform(0, 1.05 * cost))
    process.send(number)
    at_the_start = -number if number != signal.SIGINT else INTERRUPTED  # nothing is handled before there is anything to lose
    if ends(process, 0, RESUMABLE, at_the_start) == RESUMABLE:
        says(process, "--resume")


def asked_twice(job: Job, random: Random, cost: float) -> None:
    """Ctrl-C twice."""
    process = job.start(checkpoint_every=random.choice((1, 100)))
    process.wait_until(random.uniform(0, cost))
    process.send(signal.SIGINT)
    process.wait_until(random.uniform(0, cost))
    time.sleep(random.uniform(0, 0.1))
    process.send(signal.SIGINT)
    ends(process, 0, RESUMABLE, INTERRUPTED)


def _at_file(run: Path, at: int, number: int) -> None:
    """Send this process a signal at the at-th moment at which it changes a file of the run."""
    count, name = 0, f"{run.name}/"

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        else:
            path, changes = (arguments[0] if arguments else ""), event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove")
        if changes and name in os.fsdecode(path if isinstance(path, str | bytes | os.PathLike) else ""):
            count += 1
            if count == at:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)


# Files --------------------------------------------------------------------------------------------------------------------


def damaged(job: Job, random: Random, cost: float) -> None:
    """A file of a stopped run is torn, flipped, emptied or deleted. What cannot be told from the rest is refused in a line."""
    process = job.start(checkpoint_every=1)
    process.wait_until(random.uniform(0.5, 1.05) * cost)
    process.send(signal.SIGKILL)
    ends(process, 0, -signal.SIGKILL)
    paths = sorted(path for path in job.run.rglob("*") if path.is_file() and path.stat().st_size)
    if not paths:
        return
    path = random.choice(paths)
    content = path.read_bytes()
    kind = _harm(path, random)
    if path.name in ("metrics.jsonl", "eval.json"):
        job.lost.add(path.name)
    process = job.start(resume=True)
    if ends(process, 0, 1, 2) != 0:
        says(process, path.name, "config.yaml", "--resume", "settings differ", "setting", "damaged")
        lines = [line for line in process.output.splitlines() if line.startswith("vgrpo train")]
        assert len(lines) == 1, f"{kind} {path.name} was refused in {len(lines)} lines"
        path.write_bytes(content)  # as the message asks
    elif "changed since the checkpoint: num_iterations" in process.output:
        path.write_bytes(content)
        shutil.rmtree(job.run)  # told, and another run; begin again


def _harm(path: Path, random: Random) -> str:
    data = bytearray(path.read_bytes())
    kind = random.choice(("flip", "flip", "cut", "empty", "zeros", "delete", "longer"))
    if kind == "flip":
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del data[random.randrange(len(data)) :]
    elif kind == "empty":
        data.clear()
    elif kind == "zeros":
        data[:] = bytes(len(data))
    elif kind == "longer":
        data += random.randbytes(50)
    path.unlink() if kind == "delete" else path.write_bytes(data)
    return kind


def full_disk(job: Job, random: Random, cost: float) -> None:
    """The run's folder lies on a small disk; later there is space."""
    job.run.mkdir()
    size = random.choice((60, 120, 200, 300, 500, 700, 900, 1200))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", job.run], capture_output=True).returncode:
        return  # not allowed to mount: the same faults are raised by hand in the tests
    process = job.start(checkpoint_every=random.choice((1, 2)))
    if ends(process, 0, 1) == 1:
        says(process, "the disk is full", os.strerror(errno.ENOSPC))
    subprocess.run(["mount", "-o", "remount,size=100m", job.run], check=True)


def gone(job: Job, random: Random, cost: float) -> None:
    """The run's folder is moved away in mid-run, and put back."""
    process = job.start()
    process.wait_until(random.uniform(0.2, 1) * cost)
    away = job.place / "away"
    if job.run.exists():
        job.run.rename(away)
    if ends(process, 0, 1) == 1:
        says(process, "is gone", "No such file", "cannot", "holds no")
    if away.exists():
        shutil.rmtree(job.run, ignore_errors=True)
        away.rename(job.run)


def two_at_once(job: Job, random: Random, cost: float) -> None:
    """A second run in the folder of one that is at work."""
    first = job.start()
    first.wait_until(random.uniform(0, 0.8) * cost)
    second = job.start(resume=random.random() < 0.5)
    statuses = sorted((ends(first, 0, 1), ends(second, 0, 1)))
    assert 0 in statuses, "neither of two runs went on"
    if statuses == [0, 1]:
        refused = first if first.status else second
        says(refused, "is in use", "is not empty")


# Rewards and clocks -------------------------------------------------------------------------------------------------------


def bad_reward(job: Job, random: Random, cost: float) -> None:
    """The reward raises, calls sys.exit, takes its time, changes its images, or answers too much, once: never scored 0."""
    kind = random.choice(("raises", "leaves", "sleeps", "mutates", "more", "nan"))
    (job.place / "fault").write_text(f"{kind} {random.randint(1, 8)}")
    process = job.start(checkpoint_every=100)
    ends(process, 0, 1)
    if process.status == 0 and kind in ("raises", "leaves", "more", "nan") and _num_failed(job):
        shutil.rmtree(job.run)  # masked and counted, so the weights are other ones
    (job.place / "fault").unlink()


def _num_failed(job: Job) -> bool:
    import json

    lines = [json.loads(line) for line in (job.run / "metrics.jsonl").read_text().splitlines()]
    return any(line["reward/failed"] for line in lines)


def jumping_clock(job: Job, random: Random, cost: float) -> None:
    """The clock of the wall jumps by up to a day, back and forth; the run is stopped and goes on."""

    def jump() -> None:
        real, own = time.time, Random(1)
        time.time = lambda: real() + own.uniform(-86400, 86400)

    process = job.start(jump)
    process.wait_until(random.uniform(0.3, 1.05) * cost)
    process.send(signal.SIGTERM)
    ends(process, 0, RESUMABLE, -signal.SIGTERM)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        killed,
        killed_at_a_file,
        signalled_at_a_file,
        asked_to_stop,
        asked_twice,
        damaged,
        full_disk,
        gone,
        two_at_once,
        bad_reward,
        jumping_clock,
    )
}
