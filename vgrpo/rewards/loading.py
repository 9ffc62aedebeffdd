"""Rewards as a job calls them: by name, in this process or in workers, off the GPU between calls, within a time limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vgrpo.rewards.base import Reward
from vgrpo.rewards.calls import has_own_processes, limited
from vgrpo.rewards.pool.pooled import Pool, pooled
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.visiting import visiting
from vgrpo.support.checks import require

MOST_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class Calling:
    """How rewards are called."""

    device: str
    """Where the models of named ones compute."""
    offload: bool = False
    """Whether their networks are on the GPU only while they judge."""
    num_workers: int = 0
    """Processes for those that compute on the CPU; 0 calls them in this one."""
    timeout: float | None = None
    """Seconds for a call."""


def load_rewards(names: Sequence[str], how: Calling, given: Mapping[str, Reward] | None = None) -> list[Reward]:
    """The rewards with these names, some of which are `given`, in memory.

    Raises what `load_reward` does, and ValueError for workers where no reward can run in one.
    """
    given = given or {}
    require(
        not how.num_workers or all(has_own_processes(reward) for reward in given.values()),
        "reward_workers: a worker process cannot be given a reward that is in memory; put it into a file and name it, "
        'reward=("my_file:my_reward",), or leave out reward_workers',
    )
    loaded = [given[name] if name in given else load_reward(name, how.device) for name in names]
    moved = _movable({index: name for index, name in enumerate(names) if name not in given}, loaded) if how.num_workers else []
    pool = Pool([names[index] for index in moved], how.num_workers, how.timeout) if moved else None
    return [
        pooled(pool, moved.index(index), reward)
        if pool is not None and index in moved
        else limited(visiting(reward) if how.offload else reward, how.timeout)
        for index, reward in enumerate(loaded)
    ]


def check_calls(num_workers: int, timeout: float | None = None) -> None:
    """Raises ValueError for settings with which no reward can be called."""
    require(timeout is None or timeout > 0, f"reward_timeout={timeout}: must be above 0 seconds; None waits for ever")
    require(
        0 <= num_workers <= MOST_WORKERS,
        f"reward_workers={num_workers}: must lie in 0, which calls rewards in the run's own process, to {MOST_WORKERS}",
    )


def _movable(names: Mapping[int, str], loaded: list[Reward]) -> list[int]:
    """Which of the rewards with these names can run in a process that has no GPU and knows them by their names alone."""
    places, found = [], []
    for index, name in names.items():
        reward = loaded[index]
        device = getattr(reward, "device", None)
        if has_own_processes(reward):
            places.append(f"{name} has processes of its own")
        elif device is not None and str(device) != "cpu":
            places.append(f"{name} computes on {device}")
        else:
            found.append(index)
    require(
        bool(found) or not names,
        f"reward_workers: no reward can run in worker processes, which have no GPU: {'; '.join(places)}. Leave it out, or move "
        "rewards by --reward-device cpu",
    )
    return found
