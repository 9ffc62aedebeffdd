"""A cluster of Ray that a run uses, or a Ray that it starts for itself."""

import os
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from vgrpo.commands.fleet import Fleet, Keeper
from vgrpo.commands.words import UsageError
from vgrpo.support.http.token import TOKEN, token

LOCAL = "local"
"""The address that is none: a Ray of the run's own, also where RAY_ADDRESS or a Ray on this machine would be another."""


class Cluster:
    """Starts fleets, and ends them with itself.

    Raises UsageError without Ray, ConnectionError if no cluster answers.
    """

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        if find_spec("ray") is None:
            raise UsageError('--ray needs Ray; pip install "vgrpo[ray]", or leave it out')
        import ray

        self.ray, self.say, self.fleets = ray, say, list[Fleet]()
        os.environ[TOKEN] = token() or secrets.token_urlsafe(24)  # nodes are reachable from elsewhere
        self._host = "127.0.0.1" if address == LOCAL else None
        self._join(address)

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

    def start(self, what: str, words: list[str], count: int, num_gpus: float, note: Callable[[list[str]], None]) -> Fleet:
        """So many services of `vgrpo WORDS`, each with so many GPUs. `what` is how a person calls one of them; `note` is told
        of their addresses, again and again."""
        # A service computes with one thread per core by itself, so Ray counts its GPU alone, and without one a little of a CPU:
        # what takes nothing is placed at random, perhaps all on one node.
        placed: Any = self.ray.remote(Keeper).options(
            num_cpus=0 if num_gpus else 0.01,
            num_gpus=num_gpus,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        keepers = [placed.remote(words, os.environ[TOKEN], os.getcwd(), self._host) for _ in range(count)]
        self.fleets.append(Fleet(self.ray, keepers, what, self.say, note))
        return self.fleets[-1]

    def close(self) -> None:
        """End the services, and a Ray that was started for them."""
        for fleet in self.fleets:
            fleet.stop()
        for fleet in self.fleets:
            fleet.end()
        self.ray.shutdown()
