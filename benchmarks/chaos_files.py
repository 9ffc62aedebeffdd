"""Faults of files, disks and folders."""

import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path
from random import Random

from chaos_jobs import Job
from chaos_processes import ends, says


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
