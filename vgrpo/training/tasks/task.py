"""What a run is trained on: prompts, rewards, and who judges its held-out pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vgrpo.core.types import MAIN, Prompt
from vgrpo.prompts.sources import PromptSource
from vgrpo.rewards.base import Reward
from vgrpo.rewards.loading import Calling, load_rewards
from vgrpo.rewards.panel import Panel, close_rewards
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.tasks import weight_table
from vgrpo.training.tasks.prompts import RunPrompts
from vgrpo.worlds.base import World
from vgrpo.worlds.registry import judge_of

GIVEN = "(given)"  # the place of a reward in memory among the names


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned: the prompts, and the rewards of their images."""

    panel: Panel
    monitors: dict[str, Reward]
    """Measured and not trained on."""
    prompts: PromptSource
    eval_prompts: list[Prompt]
    """Held out."""
    world: World | None = None
    """Whose strict scores stand beside the rewards in the evaluation."""

    def close(self) -> None:
        """End the processes that rewards have started."""
        close_rewards([*self.panel.rewards, *self.monitors.values()])


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is in memory already and takes the place of what a config names; None is what the config says."""

    pipeline: Any = None
    reward: Reward | None = None
    prompts: list[str] | list[Prompt] | None = None
    rollout_workers: Sequence[str] = ()
    """Addresses of `vgrpo serve-rollout`, or `@FILE` with one a line, which draw the images that are trained on; looked up for
    each rollout."""
    served: Mapping[str, Reward] = field(default_factory=dict)
    """Of the rewards that the config names, those that other processes compute."""


def calling(config: Config) -> Calling:
    """How a run calls its rewards."""
    return Calling(
        device=config.device_of_rewards,
        offload=config.memory.offload_rewards,
        num_workers=config.reward_workers,
        timeout=config.reward_timeout,
    )


def make_task(config: Config, given: Given, prompts: RunPrompts) -> Task:
    """Load the rewards. Raises what `load_rewards` does."""
    held_out = prompts.held_out
    own = config.reward if given.reward is None else (GIVEN,)
    weights_of_own = config.reward_weights if given.reward is None else None
    tasks = {MAIN: (own, weights_of_own)} | {task.name: (task.reward, task.reward_weights) for task in config.tasks}
    names, weights = weight_table(tasks)

    # Before rewards are loaded: nothing may fail between the start of their processes and who ends them.
    world = judge_of(held_out, (*config.monitor, *names), [config.prompts, config.eval_prompts]) if held_out else None
    in_memory = {**given.served} | ({} if given.reward is None else {GIVEN: given.reward})
    loaded = load_rewards([*names, *config.monitor], calling(config), in_memory)
    return Task(
        panel=Panel(rewards=loaded[: len(names)], weights=weights),
        monitors=dict(zip(config.monitor, loaded[len(names) :], strict=True)),
        prompts=prompts.source,
        eval_prompts=held_out,
        world=world,
    )
