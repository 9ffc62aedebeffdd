"""What one iteration's numbers boil down to."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Batch, Rollout
from vgrpo.objectives.advantage import group_moments
from vgrpo.training.events import Values
from vgrpo.training.run import Run
from vgrpo.training.update import StepMetrics


def iteration_values(
    rollout: Rollout,
    rewards: Tensor,
    batch: Batch[Any],
    steps: Sequence[StepMetrics],
    seconds: Values,
    reward_names: Sequence[str],
) -> Values:
    """One line of metrics.jsonl. Rewards [B, R]; `seconds` of each phase."""
    total = sum(seconds.values())
    return {
        **_reward_values(rollout, rewards, reward_names),
        **_surrogate_values(rollout, batch, steps),
        **_step_values(steps),
        **{f"seconds/{name}": value for name, value in seconds.items()},
        "seconds/total": total,
        "images_per_second": len(rewards) / total,
    }


def _reward_values(rollout: Rollout, rewards: Tensor, names: Sequence[str]) -> Values:
    """Of rewards [B, R]: over the images that have all of them; each alone, if there are several, over those that have it."""
    valid = rewards[~rewards.isnan().any(1)]
    _, group_std = group_moments(rewards.nanmean(1), rollout.group.cpu(), rollout.num_groups)
    line = {
        "reward/mean": valid.mean().item(),
        "reward/std": valid.mean(1).std().item(),
        "reward/failed": len(rewards) - len(valid),
        "reward/zero_std_groups": (group_std < 1e-6).float().mean().item(),
    }
    if rewards.shape[1] > 1:
        for name, column in zip(names, rewards.unbind(1), strict=True):
            line[f"reward/{name}/mean"] = column.nanmean().item()
            line[f"reward/{name}/std"] = column[~column.isnan()].std().item()
    return line


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


def nfe_values(run: Run, rollout: Rollout, batch: Batch[Any]) -> Values:
    """Network evaluations per image of an iteration."""
    config = run.config
    branches = run.policy.num_branches(config.training_guidance)
    forwards = branches * batch.points.times().shape[1] * len(batch) / len(rollout.prompts)
    num_minibatches, num_epochs = config.update.num_minibatches, config.update.num_epochs
    needed = [len(config.objective.needed(index, num_epochs)) for index in range(num_minibatches)]
    return {
        "nfe/rollout": rollout.nfe,
        "nfe/old": forwards * sum(needed) / num_minibatches,
        "nfe/train": forwards * num_epochs,
    }
