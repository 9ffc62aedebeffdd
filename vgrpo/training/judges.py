"""What an iteration asks of the rewards."""

import torch
from torch import Tensor

from vgrpo.core.types import Rollout
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.rewards.base import RewardError, Scores
from vgrpo.rewards.judging import Judging
from vgrpo.rewards.panel import agreed
from vgrpo.sampling.draw import decode
from vgrpo.training.events import Values
from vgrpo.training.run import Run


def begin_judging(run: Run) -> Judging:
    """The run's rewards and monitors, at work on the groups that are about to be drawn."""
    task = run.task
    return task.panel.judging(list(task.monitors.values()), size=run.config.rollout.group_size, device=run.policy.device)


def require_judged(scores: Scores, weights: Tensor, iteration: int) -> None:
    """Raises RewardError if no image has a score to train on."""
    if weighted_mean(scores.usable, weights).isnan().all():
        failed = int(scores.failed.any(1).sum())
        raise RewardError(
            f"nothing was judged: of the {len(weights)} images of iteration {iteration + 1} a reward failed on {failed}, and "
            "from the others every reward with a weight abstained (NaN); give prompts that a reward judges, or another reward"
        )


def judge_latents(run: Run, rollout: Rollout) -> Tensor | None:
    """Rewards [B, J, R] of the latents that the algorithm wants judged beside the final images, if any."""
    latents = run.config.objective.credit.judged(rollout.trajectory)
    if latents is None:
        return None
    panel, settings = run.task.panel, run.config.rollout
    scores = [
        panel.judge(
            decode(run.policy, x_0, settings.batch_size),
            rollout.prompts,
            run.events.notice,
            run.processes,
            size=settings.group_size,
        )
        for x_0 in latents.unbind(1)
    ]
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
