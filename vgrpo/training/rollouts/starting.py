"""Whether a run's images can be drawn as it asks, before anything is loaded, and the connection to who draws them."""

from collections.abc import Callable, Sequence
from typing import Any

from vgrpo.models.policy import Policy
from vgrpo.objectives.base import Objective
from vgrpo.sampling.served.wire import likeness
from vgrpo.support.checks import require
from vgrpo.training.rollouts.addresses import Addresses
from vgrpo.training.rollouts.workers import RolloutWorkers


def check_served(objective: Objective[Any], finetune: str, workers: Sequence[str]) -> None:
    """Raises ValueError for what workers cannot draw, or for addresses that are none, and what `Addresses` does for a file."""
    if not workers:
        return
    Addresses(workers)
    require(
        finetune == "lora",
        f"--rollout-workers: with finetune={finetune} a whole network would go to each worker in every iteration; train a LoRA",
    )
    require(
        objective.drawing.step_sampler(0, 0) is None,
        f"--rollout-workers: {type(objective).__name__} trains on the steps of its rollouts, many times what the images "
        "are, and workers send back images alone; take an algorithm on points, such as vgrpo, or more --gpus",
    )


def connected_workers(policy: Policy, workers: Sequence[str], notice: Callable[[str], None]) -> RolloutWorkers | None:
    """Those that draw the run's images; None where it draws them itself.

    Raises ValueError for a worker that would draw other images, or for images that workers cannot draw or send;
    ConnectionError if no worker answers.
    """
    if not workers:
        return None
    require(
        not policy.takes_image,
        f"--rollout-workers: {type(policy).__name__} edits images, and they are files of this machine; leave workers out",
    )
    require(
        policy.spread is None,
        "--rollout-workers: weights that are spread are whole in no process that could send them; leave workers out",
    )
    require(
        not policy.all_frames,
        "--rollout-workers: a reward or monitor judges videos, and workers send the final frames alone; leave workers out",
    )
    found = RolloutWorkers(workers, likeness(policy))
    found.compare(notice)
    return found
