"""Tiny training jobs, each in processes of its own."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from chaos_processes import DEADLINE, Process, fork

from vgrpo.commands.main import main

NUM_ITERATIONS = 4
WORDS = (
    "--model sprites --device cpu --precision fp32 --prompts prompts.txt --eval-prompts held-out.txt "
    "--lora.rank 4 --lora.alpha 8 --lora.targets to_q "
    f"--num-iterations {NUM_ITERATIONS} --rollout.num-prompts 2 --rollout.group-size 2 --rollout.num-steps 2 "
    "--eval.num-prompts 1 --eval.num-images 1 --eval.num-steps 1 --eval.num-sample-prompts 1 --eval.sample-every 3 "
    "--update.lr 1e-3 --update.num-minibatches 2 --ema-decay 0.5 --objective awm"
).split()
STAGES = "stages: [{name: first, num_iterations: 2}, {name: second, num_iterations: 2}]\n"

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
    values = (images[:, 0] - images[:, 2]).mean((1, 2))
    if calls == int(at) and kind == "mutates":
        images.zero_()  # which others see after it
    if calls == int(at) and kind == "nan":
        values[0] = float("nan")
    if calls == int(at) and kind == "more":
        values = values.repeat(2)
    return values
'''


@dataclass
class Job:
    """A run in `place/run`, started and resumed as a user would."""

    place: Path
    kind: str = "run"
    """Or `served`, with the reward in a process of its own, or `curriculum`, of two stages."""
    run: Path = field(init=False)
    servers: list[Process] = field(default_factory=list)
    port: int = 0
    processes: list[Process] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Files in which the fault changed numbers that nothing can tell from right ones, or deleted them."""

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True)
        self.run = self.place / "run"
        (self.place / "chaos_reward.py").write_text(REWARD)
        (self.place / "prompts.txt").write_text("a red heart\ntwo blue stars\na key\n")
        (self.place / "held-out.txt").write_text("a moon\n")
        (self.place / "stages.yaml").write_text(STAGES)
        if self.kind == "served":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.serve()

    def serve(self) -> None:
        """Start the reward's server, and wait until it answers."""
        words = ["serve-reward", "chaos_reward:red", "--port", str(self.port)]
        self.servers.append(fork(lambda: main(words), self.place, self.place / f"server-{len(self.servers)}.txt"))
        began = time.monotonic()
        while time.monotonic() - began < DEADLINE:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.servers[-1].poll() is None, f"the server did not start: {self.servers[-1].output[-300:]}"
            time.sleep(0.02)

    def start(self, before: Callable[[], None] = lambda: None, *, resume: bool = False, checkpoint_every: int = 1) -> Process:
        """Begin, or go on; `before` is called in the new process first."""
        reward = f"remote=http://127.0.0.1:{self.port}" if self.kind == "served" else "chaos_reward:red"
        words = [*WORDS, "--checkpoint-every", str(checkpoint_every), "--reward", reward, "--output-dir", "run"]
        if self.kind == "curriculum":
            cut = words.index("--num-iterations")
            words = ["stages.yaml", *words[:cut], *words[cut + 2 :]]
        words = ["train", *words]
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
        lines = [json.loads(line) for path in self._files("metrics.jsonl") for line in path.read_text().splitlines()]
        return {
            "weights": [_tensors(path) for path in self._files("pytorch_lora_weights.safetensors")],
            "eval.json": [path.read_text() for name in ("eval.json", "curriculum.json") for path in self._files(name)],
            "metrics.jsonl": [{name: value for name, value in line.items() if "second" not in name} for line in lines],
        }

    def _files(self, name: str) -> list[Path]:
        return sorted(self.run.rglob(name))

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
