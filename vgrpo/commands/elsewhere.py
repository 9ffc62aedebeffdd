"""Who draws a run's images and who judges them, as its command line says: the run itself, services at addresses, or services
on a cluster of Ray."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from vgrpo.commands.cluster import LOCAL, Cluster
from vgrpo.commands.options import take_option, take_values
from vgrpo.commands.words import UsageError
from vgrpo.core.processes import Processes
from vgrpo.models.settings import ModelSettings
from vgrpo.rewards.base import Reward
from vgrpo.rewards.registry import is_client, wants_gpu
from vgrpo.rewards.served.remote import Remote
from vgrpo.support.files import write_whole
from vgrpo.training.rollouts.starting import check_served
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum
from vgrpo.training.start import Given


class Elsewhere(NamedTuple):
    """What was asked for."""

    workers: list[str]
    """Addresses of processes that draw."""
    cluster: str | None
    num_workers: int
    """Processes that draw, to be started on the cluster."""
    num_judges: int = 0
    """Servers of each reward, to be started there."""

    @property
    def given(self) -> bool:
        return bool(self.workers) or self.cluster is not None


def take_elsewhere(words: list[str]) -> tuple[list[str], Elsewhere]:
    """Take --rollout-workers, --ray, --ray-workers and --ray-rewards out of the words. Raises UsageError for what cannot be
    meant."""
    words, workers = take_values(words, "--rollout-workers")
    words, cluster = take_option(words, "--ray", alone=LOCAL)
    words, judges = _number(words, "--ray-rewards", "servers of each reward", cluster, least=1)
    words, count = _number(words, "--ray-workers", "workers", cluster, least=0 if judges else 1)
    if workers and cluster is not None:
        raise UsageError("--ray starts workers, and --rollout-workers names some that run already; leave one out")
    return words, Elsewhere(workers, cluster, 1 if count is None else count, judges or 0)


def _number(words: list[str], option: str, what: str, cluster: str | None, least: int) -> tuple[list[str], int | None]:
    words, count = take_option(words, option)
    if count is None:
        return words, None
    if not (count.isdecimal() and least <= int(count) <= 10_000):
        raise UsageError(f"{option} {count}: give a number of {what}, at least {least}")
    if cluster is None:
        raise UsageError(f"{option}: say where, by --ray, which starts a Ray on this machine, or by --ray ADDRESS")
    return words, int(count)


@contextmanager
def working_for(
    asked: Elsewhere, job: Config | Curriculum, processes: Processes, say: Callable[[str], None]
) -> Iterator[Given]:
    """What a run is given, while it goes on.

    Raises UsageError for a job that they cannot serve, and what `Cluster` and `Fleet` do.
    """
    if not asked.given:
        yield Given()
        return
    if isinstance(job, Curriculum):
        raise UsageError("--rollout-workers and --ray: a curriculum draws its own images; train its stages one by one")
    if asked.cluster is None:
        yield Given(rollout_workers=asked.workers)
        return
    if processes.size > 1:
        raise UsageError(
            "--ray starts workers for one process; for several start `vgrpo serve-rollout` and name --rollout-workers"
        )
    if asked.num_workers:
        check_served(job.objective, job.finetune, ["http://ray"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        cluster = stack.enter_context(closing(Cluster(asked.cluster, say)))
        yield _started(cluster, asked, job, folder)


def _started(cluster: Cluster, asked: Elsewhere, job: Config, folder: Path) -> Given:
    """All are started before the first is waited for. The addresses of a reward's servers are in a file, which its client reads
    again when it changes."""
    gpu = torch.cuda.is_available()
    names = list(dict.fromkeys([*job.reward, *job.monitor, *(name for task in job.tasks for name in task.reward)]))
    files = {name: folder / f"{index}.txt" for index, name in enumerate(names) if asked.num_judges and not is_client(name)}
    judges = {}
    for name, path in files.items():
        here = job.device_of_rewards == "cpu"
        words = ["serve-reward", name, *(["--device", "cpu"] if here else [])]
        gpus = float(gpu and not here and wants_gpu(name))
        judges[name] = cluster.start(f"server of {name}", words, asked.num_judges, gpus, _Listed(path))
    workers: list[str] = []
    if asked.num_workers:
        drawers = cluster.start(
            "rollout worker", words_of(job.model_settings), asked.num_workers, float(gpu), lambda addresses: None
        )
        workers = drawers.wait()
    rewards: dict[str, Reward] = {}
    for name, fleet in judges.items():
        fleet.wait()
        rewards[name] = Remote(str(files[name]))
    return Given(rollout_workers=workers, served=rewards)


class _Listed:
    """Writes a fleet's addresses into a file, where they have changed. While nobody is there the last ones stay: who comes back
    may be at its old address."""

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, list[str]()

    def __call__(self, addresses: list[str]) -> None:
        if addresses and addresses != self.written:
            write_whole(self.path, "\n".join(addresses) + "\n")
            self.written = addresses


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
