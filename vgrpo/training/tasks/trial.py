"""The rewards before a run: whether they judge its prompts, and one call of each on cheap images."""

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.models.policy import Policy
from vgrpo.rewards.base import RewardError, judges
from vgrpo.rewards.panel import Panel
from vgrpo.sampling.draw import all_noise, draw_images
from vgrpo.sampling.settings import Sampling
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.tasks.task import Task


def check_judged(panel: Panel, prompts: list[Prompt]) -> None:
    """Raises ValueError, naming the first, for prompts that by their rules no reward of their task judges."""
    own = {
        task: [
            (reward, name) for reward, name, weight in zip(panel.rewards, panel.names, weights, strict=True) if weight == weight
        ]
        for task, weights in panel.weights.items()
    }
    left = [prompt for prompt in prompts if not any(judges(reward, prompt) for reward, _ in own[prompt.task])]
    if left:
        names = ", ".join(name for _, name in own[left[0].task])
        raise ValueError(
            f"{len(left)} of {len(prompts)} prompts are none that the reward {names} judges; the first is {left[0].text!r}. "
            "docs/rewards.md says what it needs; correct them, take them out, or add a reward that judges them"
        )


@out_of_memory_while("trying the rewards on two images")
def try_rewards(policy: Policy, task: Task, prompts: list[Prompt]) -> None:
    """Call every reward once on cheap images, two for each task, so that a broken one fails now and not after minutes."""
    noise = all_noise(policy, [("trial", index) for index in range(len(prompts))])
    _, images = draw_images(policy, prompts, noise, Sampling(solver="euler", num_steps=2))
    for monitor in task.monitors.values():
        _try(Panel(rewards=[monitor], weights={name: [1.0] for name in task.panel.weights}), images, prompts)
    values = []
    for index, reward in enumerate(task.panel.rewards):
        alone = Panel(rewards=[reward], weights={name: [own[index]] for name, own in task.panel.weights.items()})
        values.append(_try(alone, images, prompts))
    if torch.cat(values, 1).isnan().all():
        raise ValueError(
            f"every reward ({', '.join(task.panel.names)}) abstained (NaN) from the prompts that were tried before training, "
            f"{', '.join(repr(prompt.text) for prompt in prompts)}; give prompts that it judges, or another reward"
        )


def _try(panel: Panel, images: Tensor, prompts: list[Prompt]) -> Tensor:
    try:
        return panel.judge(images, prompts).values
    except RewardError as error:
        raise ValueError(f"reward {panel.names[0]}, tried on two images before training: {error}") from error
