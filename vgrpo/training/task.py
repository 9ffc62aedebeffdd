"""What a run is trained on: prompts, rewards, and who judges its held-out pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vgrpo.core.types import MAIN, Prompt
from vgrpo.rewards.base import Reward
from vgrpo.rewards.calls import limited
from vgrpo.rewards.panel import Panel
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.visiting import visiting
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
    rollout_workers: Sequence[str] = ()
    """Addresses of `vgrpo serve-rollout`, which draw the images that are trained on; looked up for each rollout."""


def make_task(config: Config, given: Given, prompts: RunPrompts) -> Task:
    """Load the rewards. Raises what `load_reward` does."""
    where, held_out = config.device_of_rewards, prompts.held_out
    own = config.reward if given.reward is None else (GIVEN,)
    weights_of_own = config.reward_weights if given.reward is None else None
    tasks = {MAIN: (own, weights_of_own)} | {task.name: (task.reward, task.reward_weights) for task in config.tasks}
    names, weights = weight_table(tasks)

    def load(name: str) -> Reward:
        reward = given.reward if name == GIVEN and given.reward is not None else load_reward(name, where)
        return limited(visiting(reward) if config.memory.offload_rewards else reward, config.reward_timeout)

    return Task(
        panel=Panel(rewards=[load(name) for name in names], weights=weights),
        monitors={name: load(name) for name in config.monitor},
        prompts=prompts.source,
        eval_prompts=held_out,
        world=judge_of(held_out, (*config.monitor, *names), [config.prompts, config.eval_prompts]) if held_out else None,
    )
