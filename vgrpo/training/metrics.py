"""What one iteration's numbers boil down to."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Batch, Rollout
from vgrpo.objectives.advantage import group_moments, is_constant, weighted_mean
from vgrpo.rewards.base import Scores
from vgrpo.training.events import Values
from vgrpo.training.run import Run
from vgrpo.training.update import StepMetrics


def iteration_values(
    rollout: Rollout,
    scores: Scores,
    weights: Tensor,
    batch: Batch[Any],
    steps: Sequence[StepMetrics],
    seconds: Values,
    reward_names: Sequence[str],
) -> Values:
    """One line of metrics.jsonl. Scores and weights [B, R]; `seconds` of each phase."""
    total = sum(seconds.values())
    return {
        **_reward_values(rollout, scores, weights, reward_names),
        **_surrogate_values(rollout, batch, steps),
        **_step_values(steps),
        **{f"seconds/{name}": value for name, value in seconds.items()},
        "seconds/total": total,
        "images_per_second": len(scores.values) / total,
    }


def _reward_values(rollout: Rollout, scores: Scores, weights: Tensor, names: Sequence[str]) -> Values:
    """Of scores and weights [B, R]: the weighted reward that is trained on, and each part beside it, if there are several."""
    trained = weighted_mean(scores.usable, weights)
    known, num_failed = trained[~trained.isnan()], int(scores.failed.any(1).sum())
    _, group_std = group_moments(trained, rollout.group.cpu(), rollout.num_groups)
    return {
        "reward/mean": known.mean().item(),
        "reward/std": known.std().item() if len(known) > 1 else 0.0,
        "reward/failed": num_failed,
        "reward/abstained": len(trained) - len(known) - num_failed,
        "reward/zero_std_groups": is_constant(group_std, trained).float().mean().item(),
        **_parts(scores, trained, [prompt.task for prompt in rollout.prompts], names),
    }


def _surrogate_values(rollout: Rollout, batch: Batch[Any], steps: Sequence[StepMetrics]) -> Values:
    """How the surrogate varies inside groups and between them, as shares of its mean."""
    # Minibatches hold whole groups in order, so the first pass over them lists the rows in order.
    surrogate = torch.cat([step["surrogate"].cpu() for step in steps])[: len(batch)]
    mean, std = group_moments(surrogate, batch.group.cpu(), rollout.num_groups)
    scale = surrogate.mean().abs().clamp(min=1e-12)
    return {
        "surrogate/mean": surrogate.mean().item(),
        "surrogate/cv_within": (std.mean() / scale).item(),
        "surrogate/cv_between": (mean.std(correction=0) / scale).item(),
    }


def _step_values(steps: Sequence[StepMetrics]) -> Values:
    """Of all optimiser steps, over their rows."""
    ratio = torch.cat([step["ratio"] for step in steps])
    line = {
        "ratio/first": steps[0]["ratio"].mean().item(),
        "ratio/mean": ratio.mean().item(),
        "ratio/min": ratio.min().item(),
        "ratio/max": ratio.max().item(),
        "grad_norm": sum(step["grad_norm"].item() for step in steps) / len(steps),
        "bad_steps": sum(not (step["grad_norm"].isfinite() and step["loss"].isfinite().all()) for step in steps),
    }
    for name in ("clip_share", "kl", "loss"):  # an algorithm without a clip has no share to report
        if name in steps[0]:
            line[name] = torch.cat([step[name] for step in steps]).mean().item()
    return line


def _parts(scores: Scores, trained: Tensor, tasks: list[str], reward_names: Sequence[str]) -> Values:
    """Where there are several, each reward's own numbers, and what each task is trained on. What nothing judged is left out."""
    line = Values()
    if len(reward_names) > 1:
        for index, name in enumerate(reward_names):
            values, failed = scores.values[:, index], int(scores.failed[:, index].sum())
            known = values[~values.isnan()]
            line[f"reward/{name}/failed"] = failed
            line[f"reward/{name}/abstained"] = len(values) - len(known) - failed
            if len(known) > 1:
                line |= {f"reward/{name}/mean": known.mean().item(), f"reward/{name}/std": known.std().item()}
    if len(set(tasks)) > 1:
        for task in sorted(set(tasks)):
            own = trained[torch.tensor([name == task for name in tasks])]
            if not own.isnan().all():
                line[f"task/{task}/mean"] = own.nanmean().item()
    return line


def nfe_values(run: Run, rollout: Rollout, batch: Batch[Any]) -> Values:
    """Network evaluations per image of an iteration."""
    config = run.config
    branches = run.policy.num_branches(config.training_guidance)
    forwards = branches * batch.points.times().shape[1] * len(batch) / len(rollout.prompts)
    num_minibatches, num_epochs = config.update.num_minibatches, config.update.num_epochs
    needed = [len(config.objective.needed(index, num_epochs, config.update.keep_old)) for index in range(num_minibatches)]
    return {
        "nfe/rollout": rollout.nfe,
        "nfe/old": forwards * sum(needed) / num_minibatches,
        "nfe/train": forwards * num_epochs,
    }
