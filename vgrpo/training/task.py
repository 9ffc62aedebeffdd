"""What a run is trained on: prompts, rewards, and who judges its held-out pictures."""

from dataclasses import dataclass
from typing import Any

from vgrpo.core.types import MAIN, Prompt
from vgrpo.rewards.base import Reward
from vgrpo.rewards.loading import Calling, load_rewards
from vgrpo.rewards.panel import Panel
from vgrpo.training.config import Config
from vgrpo.training.run import Task
from vgrpo.training.task_prompts import RunPrompts
from vgrpo.training.tasks import weight_table
from vgrpo.worlds.registry import judge_of

GIVEN = "(given)"  # the place of a reward in memory among the names


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is in memory already and takes the place of what a config names; None is what the config says."""

    pipeline: Any = None
    reward: Reward | None = None
    prompts: list[str] | list[Prompt] | None = None


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

    in_memory = {} if given.reward is None else {GIVEN: given.reward}
    loaded = load_rewards([*names, *config.monitor], calling(config), in_memory)
    return Task(
        panel=Panel(rewards=loaded[: len(names)], weights=weights),
        monitors=dict(zip(config.monitor, loaded[len(names) :], strict=True)),
        prompts=prompts.source,
        eval_prompts=held_out,
        world=judge_of(held_out, (*config.monitor, *names), [config.prompts, config.eval_prompts]) if held_out else None,
    )
