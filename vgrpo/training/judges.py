"""What an iteration asks of the rewards."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vgrpo.core.types import Rollout
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.objectives.credit import Credit
from vgrpo.rewards.base import RewardError, Scores
from vgrpo.rewards.judging import Judging
from vgrpo.rewards.panel import agreed
from vgrpo.sampling.draw import decode
from vgrpo.training.metrics import RolloutScores, rollout_scores
from vgrpo.training.record.events import Values
from vgrpo.training.run import Run
from vgrpo.training.tasks.task import Task


def begin_judging(task: Task, group_size: int, device: torch.device) -> Judging:
    """The rewards and monitors, at work on groups that are about to be drawn on a device."""
    return task.panel.judging(list(task.monitors.values()), size=group_size, device=device)


class Judged(NamedTuple):
    """What the rewards say of a rollout's B images, in this process and in all."""

    scores: Scores  # [B, R]
    weights: Tensor  # [B, R]
    images: RolloutScores  # of all processes
    gains: Tensor  # [B, S, R] on the CPU: what each action earned


def judged(run: Run, rollout: Rollout, judging: Judging, credit: Credit, batch_size: int | None) -> Judged:
    """Wait for the rewards. Of latents that the algorithm wants judged, too, so many are decoded at once.

    Raises RewardError if a reward failed on every image, or if there is nothing to train on.
    """
    panel = run.task.panel
    scores = panel.scores(judging, rollout.prompts, run.events.notice, run.processes)
    weights = panel.weights_of(rollout.prompts)
    images = rollout_scores(rollout, scores, weights, list(panel.weights), run.processes)
    _require_judged(images.scores, images.weights, run.iteration)
    others = _judge_latents(run, rollout, credit.judged(rollout.trajectory), judging, batch_size)
    return Judged(scores, weights, images, credit.gains(scores.usable, others, rollout.group.cpu(), run.processes))


def _require_judged(scores: Scores, weights: Tensor, iteration: int) -> None:
    """Raises RewardError if no image has a score to train on."""
    if weighted_mean(scores.usable, weights).isnan().all():
        failed = int(scores.failed.any(1).sum())
        raise RewardError(
            f"nothing was judged: of the {len(weights)} images of iteration {iteration + 1} a reward failed on {failed}, and "
            "from the others every reward with a weight abstained (NaN); give prompts that a reward judges, or another reward"
        )


def _judge_latents(
    run: Run, rollout: Rollout, latents: Tensor | None, judging: Judging, batch_size: int | None
) -> Tensor | None:
    """Rewards [B, J, R] of latents [B, J, *D] beside the final ones, if there are any. So many are decoded at once."""
    if latents is None:
        return None
    judge = partial(run.task.panel.judge, size=judging.size, lane=judging.lane)
    images = (decode(run.policy, x_0, batch_size) for x_0 in latents.unbind(1))
    scores = [judge(each, rollout.prompts, run.events.notice, run.processes) for each in images]
    return torch.stack([each.usable for each in scores], 1)


def monitor_values(run: Run, rollout: Rollout, judging: Judging) -> Values:
    """Means of the rewards that are only watched. One that fails on every image is left out: no reason to end a run."""
    line, group, everyone = Values(), rollout.group.cpu(), torch.ones(len(rollout.prompts), dtype=torch.bool)
    for index, (name, monitor) in enumerate(run.task.monitors.items(), len(run.task.panel.rewards)):
        answers = judging.answers(index)
        try:
            scores = agreed(monitor, answers, rollout.prompts, everyone, run.events.notice, run.processes)
        except RewardError:
            continue
        line[f"monitor/{name}"] = run.processes.gather(scores.values, group).nanmean().item()
    return line
