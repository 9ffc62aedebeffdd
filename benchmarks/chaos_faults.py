"""The faults. Each takes a job and a random generator, harms the job in its own way, checks how it takes that, and leaves it to
be finished."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from chaos_files import damaged, full_disk, gone, two_at_once
from chaos_jobs import Job
from chaos_processes import ends, says

RESUMABLE, INTERRUPTED = 75, 130
Fault = Callable[[Job, Random, float], None]
"""The number is how many seconds an undisturbed job computes."""


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
    """Whether an image has no score, and the run says so. Then its numbers are other ones, and the job is begun anew."""
    lines = [json.loads(line) for line in (job.run / "metrics.jsonl").read_text().splitlines()]
    scores = json.loads((job.run / "eval.json").read_text())
    unjudged = any(scores[part]["reward"] is None for part in ("base", "tuned"))
    return unjudged or any(line["reward/failed"] or line["reward/abstained"] for line in lines)


def server_killed(job: Job, random: Random, cost: float) -> None:
    """The reward's server is killed up to three times, and comes back after up to ten seconds."""
    process = job.start(checkpoint_every=100)
    for _ in range(random.randint(1, 3)):
        process.wait_until(random.uniform(0, 1.05) * cost)
        job.servers[-1].send(signal.SIGKILL)
        job.servers[-1].wait()
        time.sleep(random.uniform(0, 10))
        job.serve()
    if ends(process, 0, 1) == 1:
        says(process, "no reward server answers there", "not one score")
    elif _num_failed(job):
        shutil.rmtree(job.run)


def server_fails(job: Job, random: Random, cost: float) -> None:
    """As `bad_reward`, on the other side of the network."""
    bad_reward(job, random, cost)


def jumping_clock(job: Job, random: Random, cost: float) -> None:
    """The clock of the wall jumps by up to a day, back and forth; the run is stopped and goes on."""

    def jump() -> None:
        real, own = time.time, Random(1)
        time.time = lambda: real() + own.uniform(-86400, 86400)

    process = job.start(jump)
    process.wait_until(random.uniform(0.3, 1.05) * cost)
    process.send(signal.SIGTERM)
    ends(process, 0, RESUMABLE, -signal.SIGTERM)


def stages_stopped(job: Job, random: Random, cost: float) -> None:
    """A curriculum of two stages is killed or asked to stop, up to three times."""
    for turn in range(random.randint(1, 3)):
        number = random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        process = job.start(resume=turn > 0, checkpoint_every=random.choice((1, 100)))
        process.wait_until(random.uniform(0, 1.5 * cost))
        process.send(number)
        ends(process, 0, RESUMABLE, -number, *([INTERRUPTED] if number == signal.SIGINT else []))


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
        server_killed,
        server_fails,
        jumping_clock,
        stages_stopped,
    )
}
KINDS = {"server_killed": "served", "server_fails": "served", "stages_stopped": "curriculum"}
"""Of the jobs that a fault takes; the others take a run."""
