"""Scores on held-out prompts, as training and `vgrpo eval` share them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.types import Prompt
from vgrpo.evaluation.behind import judge_batches
from vgrpo.evaluation.bootstrap import estimates, over_categories
from vgrpo.evaluation.judged import Judged
from vgrpo.evaluation.pictures import Picture, pictures_of, prompts_of, rows_by_tag
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.evaluation.together import together
from vgrpo.models.defaults import defaults_of
from vgrpo.models.in_step import drawing
from vgrpo.models.policy import Policy
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.rewards.base import Scores
from vgrpo.rewards.batches import BATCH
from vgrpo.rewards.panel import Panel
from vgrpo.sampling.draw import Between, nothing
from vgrpo.support.json_files import read_json, write_json
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.worlds.base import World

BATCH_SIZE = 256  # pictures that are in memory at once, and as many while they are judged


def evaluate(
    policy: Policy,
    prompts: list[Prompt],
    panel: Panel,
    settings: EvalConfig,
    world: World | None = None,
    between: Between = nothing,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Draw, score and average, all in memory; strictly too where a world is given. Every mean over all has its bootstrap
    `interval` over prompts. `between` is called before every batch, or by several processes before each of the rounds in which
    they share the pictures."""
    pictures = pictures_of(prompts, settings.num_images)
    judged = judge_shared(policy, pictures, panel, settings, world, between, processes)
    weights = panel.weights_of(prompts_of(pictures))
    columns = _columns(judged, weights)
    interval = {name: over_categories(estimates(values, pictures)).entry() for name, values in columns.items()}
    counts = {"num_prompts": len(prompts), "num_images": len(pictures)}
    return averages(judged, weights, pictures) | {"interval": interval} | counts


def judge_shared(
    policy: Policy,
    pictures: list[Picture],
    panel: Panel,
    settings: EvalConfig,
    world: World | None = None,
    between: Between = nothing,
    processes: Processes = ALONE,
) -> Judged:
    """Draw pictures and judge them, each in one of the processes; all have the scores of all pictures. `between` is called as
    `evaluate` does."""
    if processes.size == 1:
        return judge_model(policy, pictures, panel, settings, world, between)
    share = min(settings.batch_size or BATCH_SIZE, BATCH_SIZE, -(-len(pictures) // processes.size))
    size = whole_prompts(share, settings.num_images)
    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    return together(
        parts,
        lambda part: judge_model(policy, part, panel, settings, world),
        len(panel.rewards),
        between,
        processes,
        lambda: drawing(policy),
        strict=world is not None,
    )


@out_of_memory_while("drawing images for the evaluation")
def judge_model(
    policy: Policy,
    pictures: list[Picture],
    panel: Panel,
    settings: EvalConfig,
    world: World | None = None,
    between: Between = nothing,
) -> Judged:
    """Draw pictures, as many at once as the settings say, and judge them."""
    size, together = whole_prompts(BATCH_SIZE, settings.num_images), whole_prompts(BATCH, settings.num_images)
    batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    sampling = settings.resolved(defaults_of(policy))
    parts = [each.judged for each in judge_batches(policy, batches, panel, sampling, world, between, size=together)]
    return Judged(
        rewards=torch.cat([part.rewards for part in parts]),
        failed=torch.cat([part.failed for part in parts]),
        strict=torch.cat([part.strict for part in parts if part.strict is not None]) if world else None,
    )


def whole_prompts(most: int, num_images: int) -> int:
    """The number of pictures, at most so many, of whole prompts: a reward may compare the pictures of one."""
    return max(1, most // num_images) * num_images


def mean_over_tags(values: Tensor, pictures: list[Picture]) -> list[float]:
    """The mean over tags of the mean over each tag's images: of values [B, R], [R]."""
    means = [values[rows].nanmean(0) for rows in rows_by_tag(pictures).values()]
    return [float(value) for value in torch.stack(means).nanmean(0)]


def averages(judged: Judged, weights: Tensor, pictures: list[Picture]) -> dict[str, Any]:
    """`reward`, the weighted mean of the rewards (weights [R] or [B, R]), and where there are strict scores `strict`: by the
    prompts' tags and over all tags (the mean over those with a score, as GenEval averages its tasks). None where no image has
    one; an image on which a reward failed has none."""
    columns = _columns(judged, weights)
    table = torch.stack(list(columns.values()), 1)
    by_category = {
        tag: dict(zip(columns, map(_rounded, table[rows].nanmean(0).tolist()), strict=True))
        for tag, rows in rows_by_tag(pictures).items()
    }
    overall = {name: _mean([entry[name] for entry in by_category.values()]) for name in columns}
    return overall | {"by_category": by_category}


def _columns(judged: Judged, weights: Tensor) -> dict[str, Tensor]:
    """One value per picture [B] of each metric."""
    columns = {} if judged.strict is None else {"strict": judged.strict}
    columns["reward"] = weighted_mean(Scores(judged.rewards, judged.failed).usable, weights)
    return columns


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def read_eval(folder: Path) -> dict[str, Any]:
    """eval.json's content, empty where there is none. Raises ValueError if it is damaged."""
    path = folder / "eval.json"
    content: dict[str, Any] = read_json(path) if path.exists() else {}
    return content


def write_eval(folder: Path, **parts: dict[str, Any]) -> dict[str, Any]:
    """Add `base` or `tuned` to eval.json; returns the whole of it."""
    content = read_eval(folder)
    for name, part in parts.items():
        if part:
            part = dict(part)
            content |= {"num_prompts": part.pop("num_prompts"), "num_images": part.pop("num_images")}
            content[name] = part
    write_json(folder / "eval.json", content)
    return content
