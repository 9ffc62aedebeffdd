"""Who draws a run's images, as its command line says: nobody else, workers at addresses, or workers on a cluster of Ray."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import torch

from vgrpo.commands.fleet import LOCAL, Fleet, words_of
from vgrpo.commands.options import take_option, take_values
from vgrpo.commands.words import UsageError
from vgrpo.core.processes import Processes
from vgrpo.training.rollouts.starting import check_served
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum


class Drawers(NamedTuple):
    """What was asked for."""

    workers: list[str]
    cluster: str | None
    num_workers: int
    """To be started on the cluster."""

    @property
    def given(self) -> bool:
        return bool(self.workers) or self.cluster is not None


def take_drawers(words: list[str]) -> tuple[list[str], Drawers]:
    """Take --rollout-workers, --ray and --ray-workers out of the words. Raises UsageError for what cannot be meant."""
    words, workers = take_values(words, "--rollout-workers")
    words, cluster = take_option(words, "--ray", alone=LOCAL)
    words, count = take_option(words, "--ray-workers")
    if count is not None and not (count.isdecimal() and 1 <= int(count) <= 10_000):
        raise UsageError(f"--ray-workers {count}: give a number of workers, at least 1")
    if count is not None and cluster is None:
        raise UsageError("--ray-workers: say where, by --ray, which starts a Ray on this machine, or by --ray ADDRESS")
    if workers and cluster is not None:
        raise UsageError("--ray starts workers, and --rollout-workers names some that run already; leave one out")
    return words, Drawers(workers, cluster, int(count or 1))


@contextmanager
def drawing_for(
    asked: Drawers, job: Config | Curriculum, processes: Processes, say: Callable[[str], None]
) -> Iterator[Sequence[str]]:
    """Addresses of workers, or files of them, while the run goes on.

    Raises UsageError for a job that they cannot serve, and what `Fleet` does.
    """
    if not asked.given:
        yield ()
        return
    if isinstance(job, Curriculum):
        raise UsageError("--rollout-workers and --ray: a curriculum draws its own images; train its stages one by one")
    if asked.cluster is None:
        yield asked.workers
        return
    if processes.size > 1:
        raise UsageError(
            "--ray starts workers for one process; for several start `vgrpo serve-rollout` and name --rollout-workers"
        )
    check_served(job.objective, job.finetune, ["http://ray"])
    words, gpus = words_of(job.model_settings), float(torch.cuda.is_available())
    with closing(Fleet(asked.cluster, words, asked.num_workers, gpus, say)) as fleet:
        yield fleet.wait()
