"""An evaluation shared by the processes of a run: in rounds, in each of which every process has a part of the pictures."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from vgrpo.core.processes import Processes
from vgrpo.evaluation.judged import Judged
from vgrpo.evaluation.pictures import Picture
from vgrpo.rewards.base import RewardError
from vgrpo.sampling.draw import Between


def together(
    parts: list[list[Picture]],
    score: Callable[[list[Picture]], Judged],
    num_rewards: int,
    between: Between,
    processes: Processes,
    in_step: Callable[[], AbstractContextManager[None]],
    *,
    strict: bool,
) -> Judged:
    """What all pictures scored, in every process. `between` is called before each round, by all, with its number of pictures.
    All are `in_step` for a round, also those without a part. `strict` says whether there are strict scores.

    A part on which `score` raises RewardError, as where a reward fails on all its images, has failed. Raises RewardError in all
    processes if all parts have.
    """
    mine, tables, places = processes.share(len(parts)), [torch.zeros(0, 2 * num_rewards + strict)], list[int]()
    failure, num_failed = RewardError("a reward failed on every part of the evaluation"), 0
    for turn in range(-(-len(parts) // processes.size)):
        between(min(processes.size, len(parts) - turn * processes.size) * len(parts[0]))
        with in_step():
            if turn >= len(mine):
                continue
            part = mine[turn]
            try:
                tables.append(_table(score(parts[part])))
            except RewardError as error:
                tables.append(_failed(len(parts[part]), num_rewards, strict=strict))
                failure, num_failed = error, num_failed + 1
            places += [part] * len(parts[part])
    if int(processes.total(torch.tensor(num_failed))) == len(parts):
        raise failure
    table = processes.gather(torch.cat(tables), torch.tensor(places, dtype=torch.long))
    rewards, failed, rest = table.split([num_rewards, num_rewards, int(strict)], 1)
    return Judged(rewards=rewards, failed=failed.bool(), strict=rest[:, 0] if strict else None)


def _failed(count: int, num_rewards: int, *, strict: bool) -> Tensor:
    """The rows of pictures that nothing is known of."""
    missing = torch.full((count, num_rewards), torch.nan)
    return torch.cat([missing, torch.ones(count, num_rewards), *[missing[:, :1]] * strict], 1)


def _table(judged: Judged) -> Tensor:
    """[B, 2 R], or [B, 2 R + 1] with strict scores."""
    strict = [] if judged.strict is None else [judged.strict.float()[:, None]]
    return torch.cat([judged.rewards, judged.failed.float(), *strict], 1)
