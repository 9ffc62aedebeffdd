"""samples/000020/scores.json: what each sample picture scores, so that a page can say which got better and which worse."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.panel import Panel
from vgrpo.worlds.base import World


def sample_scores(
    panel: Panel, world: World | None, images: Tensor, prompts: list[Prompt], num_images: int, notice: Callable[[str], None]
) -> dict[str, Any]:
    """Of images [B, 3, H, W], `num_images` of each prompt after another: for every prompt a list of its images' numbers. A
    reward that fails on all of them leaves no scores; that ends no run."""
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
    return content
