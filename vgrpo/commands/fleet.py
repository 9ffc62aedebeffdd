"""`vgrpo train --ray`: rollout workers on the nodes of a Ray cluster, placed and kept alive by it.

Ray starts processes of `vgrpo serve-rollout`, starts them again where they or their node died, and says where they are. Nothing
else goes through it: weights and images go over HTTP, as without Ray.
"""

import ctypes
import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from threading import Event, Thread
from typing import Any

from vgrpo.commands.words import UsageError
from vgrpo.models.settings import ModelSettings
from vgrpo.support.http.token import TOKEN, token

LOCAL = "local"
"""The address that is none: a Ray of the run's own, also where RAY_ADDRESS or a Ray on this machine would be another."""
INTERVAL = 2.0
"""Seconds between two looks at whether the workers live."""
START = 600.0
"""Seconds in which the first worker must answer; a large model is loaded meanwhile."""


class Keeper:
    """On a node: one worker, started again when it dies. Ray makes it anew on another node when its own is lost."""

    def __init__(self, words: list[str], word: str, host: str | None = None) -> None:
        import ray

        self.host: str = host or ray.util.get_node_ip_address()
        self.words, self.word = words, word
        self.process: subprocess.Popen[str] | None = None

    def address(self) -> str:
        """Of the worker, once it answers; it is started if it is not there. Raises RuntimeError if it does not start."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        return self.found

    def _start(self) -> None:
        command = [sys.executable, "-m", "vgrpo", *self.words, "--host", self.host, "--port", "0"]
        environment = os.environ | {TOKEN: self.word, "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=_end_with_the_keeper
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " at http" not in line:
            raise RuntimeError(f"{' '.join(self.words[:2])} does not start on {self.host}; its node's log of Ray says why")
        self.found = line.split(" at ")[1].split(";")[0]

    def pid(self) -> int:
        """Of the worker; 0 if it was never started."""
        return 0 if self.process is None else self.process.pid

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()


def _end_with_the_keeper() -> None:
    """A worker whose keeper was killed would hold its GPU for ever (Linux: prctl's PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Fleet:
    """So many workers on a cluster. `addresses` is a list that changes as they come and go.

    Raises UsageError without Ray, ConnectionError if the cluster, or no worker on it, answers.
    """

    def __init__(self, address: str, words: list[str], count: int, num_gpus: float, say: Callable[[str], None]) -> None:
        if find_spec("ray") is None:
            raise UsageError('--ray needs Ray; pip install "vgrpo[ray]", or leave it out')
        import ray

        self.ray, self.say = ray, say
        self.addresses: list[str] = []
        os.environ[TOKEN] = token() or secrets.token_urlsafe(24)  # nodes are reachable from elsewhere
        self._join(address)
        # A service computes with one thread per core by itself, so Ray counts its GPU alone.
        placed: Any = ray.remote(Keeper).options(
            num_cpus=0, num_gpus=num_gpus, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        host = "127.0.0.1" if address == LOCAL else None
        self.keepers = [placed.remote(words, os.environ[TOKEN], host) for _ in range(count)]
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="vgrpo fleet", daemon=True)
        self._thread.start()

    def _join(self, address: str) -> None:
        own = address == LOCAL
        if own:  # Ray makes what it starts give way to all else, which would starve the workers of a CPU
            os.environ.setdefault("RAY_worker_niceness", "0")
        where: dict[str, Any] = {"address": address} | ({"include_dashboard": False} if own else {})
        try:
            self.ray.init(log_to_driver=False, logging_level="error", configure_logging=True, **where)
        except (ConnectionError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise ConnectionError(
                f"--ray {address}: no cluster of Ray there ({why}); start one, or give --ray without an address"
            ) from error

    def wait(self) -> list[str]:
        """`addresses`, once there is one. Raises ConnectionError after START seconds without."""
        until = time.monotonic() + START
        while not self.addresses:
            if time.monotonic() > until:
                raise ConnectionError(f"--ray: no rollout worker answers after {START:.0f} s; has the cluster GPUs free?")
            time.sleep(0.1)
        return self.addresses

    def _watch(self) -> None:
        """Look after all workers, each in its turn, for as long as the run goes on."""
        asked: dict[Any, int] = {}
        found: dict[int, str] = {}
        while not self._ended.wait(INTERVAL if found else 0.1):
            for index, keeper in enumerate(self.keepers):
                if index not in asked.values():
                    asked[keeper.address.remote()] = index
            ready, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=INTERVAL)
            for answer in ready:
                index = asked.pop(answer)
                self._note(found, index, answer)
            self.addresses[:] = list(found.values())

    def _note(self, found: dict[int, str], index: int, answer: Any) -> None:
        try:
            address: str = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            if found.pop(index, None) is not None:
                self.say(f"rollout worker {index + 1} of the cluster is lost ({type(error).__name__}); Ray starts it again")
            return
        if found.get(index) != address:
            self.say(f"rollout worker {index + 1} of the cluster is at {address}")
        found[index] = address

    def close(self) -> None:
        """End the workers, and a Ray that was started for them."""
        self._ended.set()
        self._thread.join(3 * INTERVAL)
        for keeper in self.keepers:
            keeper.stop.remote()
        self.ray.wait([keeper.pid.remote() for keeper in self.keepers], num_returns=len(self.keepers), timeout=INTERVAL)
        for keeper in self.keepers:
            self.ray.kill(keeper)
        self.ray.shutdown()


def words_of(settings: ModelSettings) -> list[str]:
    """`serve-rollout MODEL ...` with what is not the default, but for how a run in several processes spreads its weights."""
    usual = ModelSettings()
    memory = dataclasses.replace(settings.memory, shard=usual.memory.shard, gather=usual.memory.gather)
    own = dataclasses.replace(settings, model=usual.model, memory=memory)
    return ["serve-rollout", settings.model, *_options(own, usual, "--")]


def _options(settings: Any, default: Any, prefix: str) -> list[str]:
    words = list[str]()
    for field in dataclasses.fields(settings):
        value, usual, name = getattr(settings, field.name), getattr(default, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            words += _options(value, usual, f"{prefix}{name}.")
        elif value != usual:
            words += [f"{prefix}{name}"] if value is True else [f"{prefix}{name}", str(value)]
    return words
