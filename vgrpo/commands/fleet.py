"""`vgrpo train --ray`: services on the nodes of a Ray cluster, placed and kept alive by it.

Ray starts processes of `vgrpo serve-rollout` and `vgrpo serve-reward`, starts them again where they or their node died, and
says where they are. Nothing else goes through it: weights and images go over HTTP, as without Ray.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

from vgrpo.support.http.token import TOKEN

INTERVAL = 2.0
"""Seconds between two looks at whether the services live."""
START = 600.0
"""Seconds in which the first of a fleet must answer; a large model is loaded meanwhile."""


class Keeper:
    """On a node: one service, started again when it dies. Ray makes it anew on another node when its own is lost."""

    def __init__(self, words: list[str], word: str, folder: str, host: str | None = None) -> None:
        import ray

        self.host: str = host or ray.util.get_node_ip_address()
        self.words, self.word = words, word
        self.folder = folder if Path(folder).is_dir() else None
        """The run's current folder, where this node has it: a user's own files are looked up there."""
        self.process: subprocess.Popen[str] | None = None

    def address(self) -> str:
        """Of the service, once it answers; it is started if it is not there. Raises RuntimeError if it does not start."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        return self.found

    def _start(self) -> None:
        command = [sys.executable, "-m", "vgrpo", *self.words, "--host", self.host, "--port", "0"]
        environment = os.environ | {TOKEN: self.word, "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=subprocess.PIPE, text=True, preexec_fn=_end_with_the_keeper
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " at http" not in line:
            raise RuntimeError(f"{' '.join(self.words[:2])} does not start on {self.host}; its node's log of Ray says why")
        self.found = line.split(" at ")[1].split(";")[0]

    def pid(self) -> int:
        """Of the service; 0 if it was never started."""
        return 0 if self.process is None else self.process.pid

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()


def _end_with_the_keeper() -> None:
    """A service whose keeper was killed would hold its GPU for ever (prctl's PR_SET_PDEATHSIG, which Linux alone has)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Fleet:
    """Services of one kind, each with its keeper. `addresses` is a list that changes as they come and go; `note` is told of it
    after every look."""

    def __init__(
        self, ray: Any, keepers: list[Any], what: str, say: Callable[[str], None], note: Callable[[list[str]], None]
    ) -> None:
        self.ray, self.keepers, self.what, self.say, self.note = ray, keepers, what, say, note
        self.addresses: list[str] = []
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="vgrpo fleet", daemon=True)
        self._thread.start()

    def wait(self) -> list[str]:
        """`addresses`, once there is one. Raises ConnectionError after START seconds without."""
        until = time.monotonic() + START
        while not self.addresses:
            if time.monotonic() > until:
                raise ConnectionError(f"--ray: no {self.what} answers after {START:.0f} s; has the cluster GPUs free?")
            time.sleep(0.1)
        return self.addresses

    def _watch(self) -> None:
        """Look after all services, each in its turn, for as long as the run goes on."""
        asked: dict[Any, int] = {}
        found: dict[int, str] = {}
        while not self._ended.wait(INTERVAL if found else 0.1):
            for index, keeper in enumerate(self.keepers):
                if index not in asked.values():
                    asked[keeper.address.remote()] = index
            ready, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=INTERVAL)
            for answer in ready:
                index = asked.pop(answer)
                self._found(found, index, answer)
            self.note(list(found.values()))
            self.addresses[:] = list(found.values())

    def _found(self, found: dict[int, str], index: int, answer: Any) -> None:
        try:
            address: str = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            if found.pop(index, None) is not None:
                self.say(f"{self.what} {index + 1} of the cluster is lost ({type(error).__name__}); Ray starts it again")
            return
        if found.get(index) != address:
            self.say(f"{self.what} {index + 1} of the cluster is at {address}")
        found[index] = address

    def stop(self) -> None:
        """Ask the services to end."""
        self._ended.set()
        self._thread.join(3 * INTERVAL)
        for keeper in self.keepers:
            keeper.stop.remote()

    def end(self) -> None:
        """Once they were asked."""
        self.ray.wait([keeper.pid.remote() for keeper in self.keepers], num_returns=len(self.keepers), timeout=INTERVAL)
        for keeper in self.keepers:
            self.ray.kill(keeper)
