"""From a judged rollout to what an update trains on."""

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vgrpo.core.processes import Processes
from vgrpo.core.types import Batch, Rollout
from vgrpo.objectives.advantage import extremes
from vgrpo.training.settings.config import Config


class Judgement(NamedTuple):
    """What B images with S actions each are worth."""

    advantage: Tensor  # [B, S], 0 where there is no reward
    valid: Tensor  # [B] bool, whether there is one


def advantages_of(config: Config, rollout: Rollout, gains: Tensor, weights: Tensor, processes: Processes) -> Judgement:
    """From what the actions earned: [B, S, R] with weights [B, R], NaN where there is no reward."""
    weights = weights.to(gains.device)
    judged = ~gains.isnan().any(1)  # a reward counts for an image if it judged all its actions
    valid = (judged & (weights.nan_to_num(0.0) != 0)).any(1) & rollout.latents.isfinite().flatten(1).all(1)
    gains = torch.where((judged & valid[:, None])[:, None], gains, torch.nan)
    actions = [config.advantage(action, weights, rollout.group, rollout.num_groups, processes) for action in gains.unbind(1)]
    return Judgement(torch.where(valid[:, None], torch.stack(actions, 1), 0.0), valid)


def make_batch(
    config: Config, rollout: Rollout, judgement: Judgement, iteration: int, *seed: int | str, processes: Processes
) -> Batch[Any]:
    """A rollout with its advantages, and points to query."""
    objective = config.objective
    batch = Batch(
        points=objective.points(rollout.latents, rollout.group, *seed, trajectory=rollout.trajectory),
        cond=rollout.cond,
        advantage=judgement.advantage.squeeze(1),
        group=rollout.group,
        valid=judgement.valid,
        processes=processes,
    )
    batch = objective.credit.assign(batch, iteration)
    if not batch.valid.all():
        # A masked row must not reach the network: its loss counts 0 times, but 0 x NaN is NaN in every weight's gradient.
        batch = batch[batch.valid.nonzero()[:, 0]]
    if config.update.keep_share < 1 and len(batch) > 0:
        rows, centred = extremes(batch.advantage, batch.group, config.update.keep_share)
        batch = dataclasses.replace(batch[rows], advantage=centred)
    return batch
