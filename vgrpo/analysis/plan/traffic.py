"""What the GPUs of a job tell each other in an iteration, and how long that takes.

Of a ring of n GPUs each sends (n - 1) / n of what is gathered, as much of what is summed in parts (reduce-scatter), and twice
as much of what all get the sum of (all-reduce).
"""

import math
from dataclasses import dataclass

from vgrpo.analysis.plan.job import Job
from vgrpo.analysis.plan.links import Link, speed


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes of an iteration, each as large as what is gathered or summed."""

    gathered: float = 0.0
    """Weights that come together from those who share them."""
    scattered: float = 0.0
    """Gradients whose sums go to those who keep them."""
    summed: float = 0.0
    """Gradients whose sums go to all."""


def traffic(job: Job) -> Traffic:
    """Of a job on several GPUs; all zero on one. The few numbers per image beside it are left out."""
    config, full = job.config, job.config.finetune == "full"
    num_steps, sharers = config.update.num_steps, job.sharers(config)
    sums = 4.0 * job.num_trained * num_steps if job.num_gpus > 1 else 0.0
    if sharers == 1:
        return Traffic(summed=sums)
    chunks = num_chunks(job)
    gathered = num_gathers(job) * job.spread_bytes(config)
    if not full:
        return Traffic(gathered=gathered, summed=sums)
    # Each chunk's gradient is summed in parts as it is there: kept whole until the last it would take the memory that is saved.
    # Copies on several machines add up their parts after the last one.
    return Traffic(gathered=gathered, scattered=sums * chunks, summed=sums / sharers if sharers < job.num_gpus else 0.0)


def num_chunks(job: Job) -> int:
    """Forwards of a minibatch."""
    rows = math.ceil(job.num_images * job.config.update.keep_share / job.config.update.num_minibatches)
    return math.ceil(rows / job.micro_batch_size(job.config))


def num_gathers(job: Job) -> int:
    """How often the whole network is gathered, block by block or at once: for each forward, and again for each backward."""
    config, chunks = job.config, num_chunks(job)
    batches = math.ceil(job.num_images / job.rollout_batch_size(config))
    drawn = 1 if config.memory.gather else batches * math.ceil(job.rollout_forwards)
    baselines = sum(map(len, config.needed))
    coupled = config.objective.couples_images and chunks > 1
    return drawn + chunks * (baselines + config.update.num_steps * (2 + coupled))


def seconds(job: Job, inside: Link, between: Link) -> float:
    """To send it, by the slowest link that each operation crosses."""
    found, sharers, each = traffic(job), job.sharers(job.config), job.num_gpus // job.num_nodes
    across = speed(between, each) if job.num_nodes > 1 else speed(inside, each)
    shared = across if sharers > each else speed(inside, each)
    time = (found.gathered + found.scattered) * (sharers - 1) / sharers / shared
    groups = job.num_nodes if sharers == each and found.scattered else job.num_gpus  # who holds another sum of the same
    return time + 2 * found.summed * (groups - 1) / groups / across
