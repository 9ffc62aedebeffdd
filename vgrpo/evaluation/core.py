"""Scores on held-out prompts, by fixed seeds, so that base and tuned weights face the same noise."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.policy import Policy
from vgrpo.rewards.registry import Reward, score_images
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.support.json_files import read_json, write_json
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.worlds.sprites import verifier
from vgrpo.worlds.sprites.grammar import TAGS
from vgrpo.worlds.sprites.render import SHAPES

BATCH_SIZE = 256


@dataclass(frozen=True)
class Job:
    """One image to draw: its prompt, the prompt's index and the image's among those of the prompt, which name its noise."""

    prompt: Prompt
    index: int
    member: int

    @property
    def tag(self) -> str:
        """The category that its score counts for."""
        return str(self.prompt.metadata.get("tag", "all"))


def image_jobs(prompts: list[Prompt], num_images: int) -> list[Job]:
    """All images of all prompts, prompt by prompt."""
    return [Job(prompt, index, member) for index, prompt in enumerate(prompts) for member in range(num_images)]


def evaluate(
    policy: Policy,
    prompts: list[Prompt],
    rewards: list[Reward],
    settings: EvalConfig,
    weights: list[float],
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Draw, `batch_size` images at once (None: many), score and average, all in memory."""
    values, strict, jobs = judge_model(policy, prompts, rewards, settings, batch_size)
    return averages(combined(values, strict, weights), jobs) | {"num_prompts": len(prompts), "num_images": len(jobs)}


@out_of_memory_while("drawing images for the evaluation")
def judge_model(
    policy: Policy, prompts: list[Prompt], rewards: list[Reward], settings: EvalConfig, batch_size: int | None = None
) -> tuple[Tensor, Tensor, list[Job]]:
    """Draw images of every prompt, `batch_size` at once: their rewards [N, R], strict scores [N], and what each of them is."""
    jobs = image_jobs(prompts, settings.num_images)
    known = knows_sprites(prompts)
    parts = []
    for start in range(0, len(jobs), BATCH_SIZE):
        part = jobs[start : start + BATCH_SIZE]
        parts.append(score(draw(policy, part, settings, batch_size), part, rewards, known))
    values, strict = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return values, strict, jobs


def mean_over_tags(values: Tensor, jobs: list[Job]) -> list[float]:
    """The mean over tags of the mean over each tag's images: of values [N, R], [R]."""
    tags = [job.tag for job in jobs]
    means = [values[[t == tag for t in tags]].nanmean(0) for tag in dict.fromkeys(tags)]
    return [float(value) for value in torch.stack(means).nanmean(0)]


def draw(policy: Policy, jobs: list[Job], settings: EvalConfig, batch_size: int | None = None) -> Tensor:
    """Images [B, 3, H, W] in [0, 1]."""
    noise = torch.stack([named_noise(policy, "evaluation", job.index, job.member) for job in jobs])
    chosen = [job.prompt for job in jobs]
    return draw_images(policy, chosen, noise, replace(settings, batch_size=batch_size))[1]


def knows_sprites(prompts: list[Prompt]) -> bool:
    """Whether the sprites judge can judge them all. GenEval's prompts have the same tags, but name other objects."""
    return all(
        prompt.metadata.get("tag") in TAGS and all(item["class"] in SHAPES for item in prompt.metadata.get("include", ()))
        for prompt in prompts
    )


def score(images: Tensor, jobs: list[Job], rewards: list[Reward], known: bool) -> tuple[Tensor, Tensor]:
    """Rewards [B, R], and the strict score [B] if the prompts are `known` to the sprites judge (else NaN)."""
    prompts = [job.prompt for job in jobs]
    values = torch.stack([score_images(reward, images, prompts) for reward in rewards], 1)
    return values, verifier.score(images, prompts).strict if known else torch.full((len(jobs),), torch.nan)


def combined(values: Tensor, strict: Tensor, weights: list[float]) -> Tensor:
    """[B, 2]: the weighted mean of the rewards [B, R], and the strict score [B]."""
    return torch.stack([values @ (torch.tensor(weights) / sum(weights)), strict], 1)


def averages(scores: Tensor, jobs: list[Job]) -> dict[str, Any]:
    """Mean of `combined` scores [B, 2], by the prompts' tags and over all tags (the mean over them, as GenEval averages its
    tasks). `strict` is None for prompts that the sprites judge does not know."""
    tags = [job.tag for job in jobs]
    by_category = {tag: _mean(scores[[t == tag for t in tags]]) for tag in dict.fromkeys(tags)}
    known = [float(entry["strict"]) for entry in by_category.values() if entry["strict"] is not None]
    return {
        "strict": sum(known) / len(known) if known else None,
        "reward": sum(entry["reward"] or 0.0 for entry in by_category.values()) / len(by_category),
        "by_category": by_category,
    }


def _mean(scores: Tensor) -> dict[str, float | None]:
    reward, strict = scores.nanmean(0).tolist()
    return {"strict": None if strict != strict else round(strict, 4), "reward": round(reward, 4)}


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
