"""A worker as the process that starts it sees it."""

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.calls import CallFailed, NoAnswer, RewardError
from vgrpo.rewards.pool.worker import BROKEN, READY, SCORES, send_images
from vgrpo.support.secrets import redact

TOLD_LINES = 5
"""Of what a worker wrote last."""
GONE = (EOFError, OSError)


class WorkerLost(Exception):
    """The process ended in the middle of its work; the text says how, and what it wrote last."""


class Worker:
    """A process that has loaded rewards by name, and answers one call at a time."""

    def __init__(self, names: list[str], threads: int) -> None:
        self.names, self.threads = names, threads
        self.start()

    def start(self) -> None:
        """Begin to load; `wait` tells when that is done."""
        own, other = socket.socketpair()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        parts = (str(other.fileno()), str(self.threads), str(os.getpid()), *self.names)
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vgrpo.rewards.pool.worker", *parts],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                pass_fds=(other.fileno(),),
                env=os.environ | self._environment(),
                start_new_session=True,  # Ctrl-C is for the run, which first lets a phase end
            )
        self.connection = Connection(own.detach())
        self.ready = False

    def _environment(self) -> dict[str, str]:
        """It finds the same modules, and no GPU: so many processes would each take memory there."""
        package = str(Path(__file__).parents[3])
        path = os.pathsep.join([*filter(None, sys.path), package])
        return {"PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": ""}

    def wait(self) -> None:
        """Until the rewards are loaded. Raises ValueError, with the reason, if they cannot be, and WorkerLost."""
        if self.ready:
            return
        try:
            kind, reason = self.connection.recv()
        except GONE as error:
            raise self._lost() from error
        if kind != READY:
            raise ValueError(f"the reward {' or '.join(self.names)} cannot be loaded in a worker process: {reason}")
        self.ready = True

    def ask(self, index: int, images: Tensor, prompts: list[Prompt], timeout: float | None) -> Tensor:
        """Scores [B] of the reward with this number. Raises what `call` raises, NoAnswer after so many seconds, WorkerLost."""
        self.wait()
        try:
            send_images(self.connection, index, images, prompts)
            if not self.connection.poll(timeout):
                self.close()
                raise NoAnswer(f"no answer within {timeout:g} s")
            kind, content = self.connection.recv()
        except GONE as error:
            raise self._lost() from error
        if kind == SCORES:
            return torch.frombuffer(bytearray(content), dtype=torch.float32)
        raise RewardError(content) if kind == BROKEN else CallFailed(content)

    def _lost(self) -> WorkerLost:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        status = self.process.returncode
        how = "does not answer" if status is None else f"ended with status {status}" if status >= 0 else f"got signal {-status}"
        self.log.seek(0)
        said = " | ".join(self.log.read()[-4000:].decode(errors="replace").strip().splitlines()[-TOLD_LINES:])
        self.close()
        return WorkerLost(redact(f"a worker process {how}" + (f"; it wrote last: {said}" if said else "")))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()
