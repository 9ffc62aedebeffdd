"""samples/000020/scores.json: what each sample picture scores, so that a page can say which got better and which worse."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.rewards.base import Reward, RewardError, score_images
from vgrpo.rewards.found import boxes_on
from vgrpo.rewards.panel import Panel
from vgrpo.worlds.base import World


def sample_scores(
    panel: Panel,
    monitors: Mapping[str, Reward],
    world: World | None,
    images: Tensor,
    prompts: list[Prompt],
    num_images: int,
    notice: Callable[[str], None],
) -> dict[str, Any]:
    """Of images [B, 3, H, W], `num_images` of each prompt after another: for every prompt a list of its images' numbers, and of
    what the rewards found on them. A reward that fails on all of them leaves no scores; that ends no run."""
    try:
        scores = panel.judge(images, prompts, notice)
    except RewardError as error:
        notice(f"the sample pictures have no scores: {error}")
        return {}
    per_prompt = (len(prompts) // num_images, num_images)
    reward = weighted_mean(scores.usable, panel.weights_of(prompts))
    content = {
        "rewards": panel.names,
        "parts": scores.values.unflatten(0, per_prompt).tolist(),
        "reward": reward.unflatten(0, per_prompt).tolist(),
        "tags": [str(prompt.metadata.get("tag", "")) for prompt in prompts[::num_images]],
    }
    if world is not None:
        content["strict"] = world.strict(images, prompts).unflatten(0, per_prompt).tolist()
    watched = {name: _watched(monitor, images, prompts, notice) for name, monitor in monitors.items()}
    content["monitors"] = {name: row.unflatten(0, per_prompt).tolist() for name, row in watched.items() if row is not None}
    found = boxes_on([*panel.rewards, *monitors.values()], images, prompts)
    starts = range(0, len(prompts), num_images)
    content["found"] = {name: [rows[start : start + num_images] for start in starts] for name, rows in found.items()}
    return content


def _watched(monitor: Reward, images: Tensor, prompts: list[Prompt], notice: Callable[[str], None]) -> Tensor | None:
    """A monitor's scores [B]; None where it failed on all images."""
    try:
        return score_images(monitor, images, prompts, notice=notice)
    except RewardError:
        return None
