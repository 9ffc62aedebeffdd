"""Tiny training jobs as processes of their own, forked from one that has imported everything: a start costs nothing.

A fork has the signals, the file descriptors and the death of a process started by a shell. The process that forks computes
nothing itself, so that no thread is lost.
"""

import atexit
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vgrpo.commands.main import main

NUM_ITERATIONS = 4
WORDS = (
    "--model sprites --device cpu --precision fp32 --prompts prompts.txt --eval-prompts held-out.txt "
    "--lora.rank 4 --lora.alpha 8 --lora.targets to_q "
    f"--num-iterations {NUM_ITERATIONS} --rollout.num-prompts 2 --rollout.group-size 2 --rollout.num-steps 2 "
    "--eval.num-prompts 1 --eval.num-images 1 --eval.num-steps 1 --eval.num-sample-prompts 1 --eval.sample-every 3 "
    "--update.lr 1e-3 --update.num-minibatches 2 --ema-decay 0.5 --objective awm"
).split()
DEADLINE = 300.0  # seconds that a job may take, on a busy machine too

REWARD = '''
"""How much redder than blue an image is; what the file `fault` names goes wrong at one of the calls."""
import os, sys, time
from pathlib import Path

calls = 0

def red(images, prompts):
    global calls
    calls += 1
    kind, at = Path("fault").read_text().split() if Path("fault").exists() else ("", "0")
    if calls == int(at):
        if kind == "raises":
            raise RuntimeError("the judge went home")
        if kind == "leaves":
            sys.exit("the judge went home")
        if kind == "sleeps":
            time.sleep(2)
        if kind == "mutates":
            images.zero_()
    values = (images[:, 0] - images[:, 2]).mean((1, 2))
    if calls == int(at) and kind == "nan":
        values[0] = float("nan")
    if calls == int(at) and kind == "more":
        values = values.repeat(2)
    return values
'''


@dataclass
class Process:
    """A forked process in a session of its own, and what it prints."""

    pid: int
    log: Path
    status: int | None = None
    """The exit status; minus the signal's number if one ended it."""

    def poll(self) -> int | None:
        if self.status is None:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(code) if pid else None
        return self.status

    def wait(self) -> int:
        began = time.monotonic()
        while self.poll() is None:
            if time.monotonic() - began > DEADLINE:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"a process did not end in {DEADLINE:.0f} s")
            time.sleep(0.01)
        assert self.status is not None
        return self.status

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def computed(self) -> float:
        """Seconds that it has had of a core: a measure of progress that a busy machine does not change."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until(self, seconds: float) -> None:
        """Until it has computed so much, or has ended."""
        began = time.monotonic()
        while self.poll() is None and self.computed() < seconds and time.monotonic() - began < DEADLINE:
            time.sleep(0.004)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")


def fork(action: Callable[[], int], place: Path, log: Path) -> Process:
    """Run a function in a process of its own, in a folder; its result is the exit status."""
    pid = os.fork()
    if pid:
        return Process(pid, log)
    status = 1
    try:
        os.setsid()
        os.chdir(place)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        status = action()
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(status)


@dataclass
class Job:
    """A run in `place/run`, started and resumed as a user would."""

    place: Path
    reward: str = "chaos_reward:red"
    run: Path = field(init=False)
    processes: list[Process] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Files in which the fault changed numbers that nothing can tell from right ones, or deleted them."""

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True)
        self.run = self.place / "run"
        (self.place / "chaos_reward.py").write_text(REWARD)
        (self.place / "prompts.txt").write_text("a red heart\ntwo blue stars\na key\n")
        (self.place / "held-out.txt").write_text("a moon\n")

    def start(self, before: Callable[[], None] = lambda: None, *, resume: bool = False, checkpoint_every: int = 1) -> Process:
        """Begin, or go on; `before` is called in the new process first."""
        words = ["train", *WORDS, "--checkpoint-every", str(checkpoint_every), "--reward", self.reward, "--output-dir", "run"]
        if resume and (self.run / "config.yaml").exists():
            words = ["train", "run/config.yaml"]
        words += ["--resume"] if resume else []

        def action() -> int:
            before()
            return main(words)

        process = fork(action, self.place, self.place / f"log-{len(self.processes)}.txt")
        self.processes.append(process)
        return process

    def finish(self) -> None:
        """Go on until the end, which must be reached at once."""
        status = self.start(resume=True).wait()
        assert status == 0, f"resuming ended with status {status}: {self.last_words()}"

    def last_words(self) -> str:
        lines = self.processes[-1].output.strip().splitlines()
        return lines[-1] if lines else "nothing was printed"

    def result(self) -> dict[str, object]:
        """What must not depend on what happened on the way: weights, scores, and all of the numbers but the seconds."""
        lines = [json.loads(line) for line in (self.run / "metrics.jsonl").read_text().splitlines()]
        kept = [{name: value for name, value in line.items() if "second" not in name} for line in lines]
        weights = _tensors(self.run / "lora/pytorch_lora_weights.safetensors")
        return {"weights": weights, "eval.json": (self.run / "eval.json").read_text(), "metrics.jsonl": kept}

    def check_traces(self) -> None:
        """No temporary file, no process and no traceback is left."""
        drafts = [str(path.relative_to(self.run)) for path in self.run.rglob(".*") if path.name != ".lock"]
        assert not drafts, f"left behind: {', '.join(drafts)}"
        for process in self.processes:
            assert "Traceback (most recent call last)" not in process.output, f"a traceback in {process.log}"
            assert not _session(process.pid), f"processes are left of {process.pid}"


def _tensors(path: Path) -> tuple[dict[str, object], bytes]:
    """Names and places, then all numbers; the library writes a file's remarks in random order."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"]
    return header, content[8 + size :]


def _session(leader: int) -> list[int]:
    """The processes of a session that still live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == leader and words[0] != "Z":
            found.append(int(folder.name))
    return found
