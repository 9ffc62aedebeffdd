"""What one iteration's numbers boil down to: over the images of all processes, so that each finds the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.processes import Processes
from vgrpo.core.types import Rollout
from vgrpo.objectives.advantage import group_moments, is_constant, weighted_mean
from vgrpo.objectives.base import WeightSet
from vgrpo.rewards.base import Scores
from vgrpo.training.record.events import Values
from vgrpo.training.update import StepMetrics


@dataclass(frozen=True, kw_only=True)
class RolloutScores:
    """The B images of an iteration, of all processes, and what they scored."""

    group: Tensor  # [B] on the CPU
    num_groups: int
    tasks: list[str]  # B
    scores: Scores  # [B, R]
    weights: Tensor  # [B, R]
    distance: Tensor  # [B] of `distance_in_group`


def rollout_scores(
    rollout: Rollout, scores: Scores, weights: Tensor, tasks: Sequence[str], processes: Processes
) -> RolloutScores:
    """From what this process drew and judged; `tasks` are all that there are."""
    group = rollout.group.cpu()
    task = torch.tensor([[tasks.index(prompt.task)] for prompt in rollout.prompts])
    distance = distance_in_group(rollout.latents, rollout.group)[:, None]
    columns = torch.cat([part.double() for part in (scores.values, scores.failed, weights, task, distance)], 1)
    table, width = processes.gather(columns, group), scores.values.shape[1]
    values, failed, weights, task, distance = table.split([width, width, width, 1, 1], 1)
    return RolloutScores(
        group=processes.gather(group, group),
        num_groups=rollout.num_groups,
        tasks=[tasks[int(index)] for index in task[:, 0].tolist()],
        scores=Scores(values.float(), failed.bool()),
        weights=weights.float(),
        distance=distance[:, 0],
    )


def distance_in_group(latents: Tensor, group: Tensor) -> Tensor:
    """How far latents [B, *D] lie from the others of their group [B]: the mean over these of the root mean square difference of
    two latents, [B] fp64 on the CPU. NaN for a latent that is not finite, or has no finite one beside it."""
    rows = latents.flatten(1)
    finite, result = rows.isfinite().all(1), torch.full((len(rows),), torch.nan, dtype=torch.float64)
    for number in group.unique():  # one group after another: the same numbers in however many processes
        members = ((group == number) & finite).nonzero()[:, 0]
        if len(members) > 1:
            pairs = torch.cdist(rows[members], rows[members], compute_mode="donot_use_mm_for_euclid_dist")
            result[members.cpu()] = pairs.cpu().double().sum(1) / ((len(members) - 1) * rows.shape[1] ** 0.5)
    return result


def iteration_values(
    images: RolloutScores, trained: Tensor, steps: Sequence[StepMetrics], seconds: Values, reward_names: Sequence[str]
) -> Values:
    """One line of metrics.jsonl. `trained` are the groups of the rows that were trained on, `seconds` those of each phase."""
    total = sum(seconds.values())
    return {
        **_reward_values(images, reward_names),
        "diversity": images.distance.nanmean().item(),
        **_surrogate_values(images.num_groups, trained, steps),
        **_step_values(steps),
        **{f"seconds/{name}": value for name, value in seconds.items()},
        "seconds/total": total,
        "images_per_second": len(images.group) / total,
    }


def _reward_values(images: RolloutScores, names: Sequence[str]) -> Values:
    """The weighted reward that is trained on, and each part beside it, if there are several."""
    scores = images.scores
    trained = weighted_mean(scores.usable, images.weights)
    known, num_failed = trained[~trained.isnan()], int(scores.failed.any(1).sum())
    _, group_std = group_moments(trained, images.group, images.num_groups)
    return {
        "reward/mean": known.mean().item(),
        "reward/std": known.std().item() if len(known) > 1 else 0.0,
        "reward/group_std": group_std.nanmean().item(),
        "reward/failed": num_failed,
        "reward/abstained": len(trained) - len(known) - num_failed,
        "reward/zero_std_groups": is_constant(group_std, trained).float().mean().item(),
        **_parts(scores, trained, images.tasks, names),
    }


def _surrogate_values(num_groups: int, group: Tensor, steps: Sequence[StepMetrics]) -> Values:
    """How the surrogate of rows in groups [B] varies inside groups and between them, as shares of its mean."""
    # Minibatches hold whole groups in order, so the first pass over them lists the rows in order.
    surrogate = torch.cat([step["surrogate"].cpu() for step in steps])[: len(group)]
    mean, std = group_moments(surrogate, group.cpu(), num_groups)
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
    for name in ("clip_share", "kl", "ref_kl", "loss"):  # an algorithm without a clip has no share to report
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


def nfe_values(needed: Sequence[Sequence[WeightSet]], num_epochs: int, nfe_of_rollout: float, forwards: float) -> Values:
    """Network evaluations per image of an iteration; `forwards` is what one look at all that was trained on costs, and `needed`
    says which baselines each minibatch asks for."""
    return {
        "nfe/rollout": nfe_of_rollout,
        "nfe/old": forwards * sum(map(len, needed)) / len(needed),
        "nfe/train": forwards * num_epochs,
    }


def memory_values(device: torch.device) -> Values:
    """The most memory that tensors took on this process's GPU since this was last asked, in GB; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return {"memory/gpu_gb": peak}
