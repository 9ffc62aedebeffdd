"""Which of several processes this one is, as a launcher says in the environment: torchrun, or a Slurm script."""

import os
from typing import NamedTuple

DEFAULTS = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


class Launched(NamedTuple):
    """One process of a job."""

    rank: int
    """Its number among all."""
    size: int
    """How many there are."""
    local_rank: int
    """Its number on this machine, which is that of its GPU."""


def local_size() -> int:
    """How many processes of the job are on this machine, by LOCAL_WORLD_SIZE. Raises ValueError if no launcher says."""
    size = os.environ.get("LOCAL_WORLD_SIZE", "")
    if not (size.isdecimal() and int(size) > 0):
        raise ValueError(f"LOCAL_WORLD_SIZE={size}: set it to the number of processes on each machine, as torchrun does")
    return int(size)


def launched() -> Launched:
    """From RANK, WORLD_SIZE and LOCAL_RANK; alone without them. Raises ValueError for what is no place among them."""
    size, rank, local = (os.environ.get(name, default) for name, default in DEFAULTS)
    if not (size.isdecimal() and rank.isdecimal() and local.isdecimal() and int(rank) < int(size)):
        raise ValueError(f"WORLD_SIZE={size}, RANK={rank}, LOCAL_RANK={local}: must be numbers, the rank below the size")
    return Launched(int(rank), int(size), int(local))
