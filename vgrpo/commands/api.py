"""`vgrpo.train` for Python: the training loop with the console's display."""

from typing import Any

from vgrpo.commands.console import RunConsole
from vgrpo.core.types import Prompt
from vgrpo.rewards.registry import Reward
from vgrpo.training import loop
from vgrpo.training.config import Config
from vgrpo.training.loop import Result
from vgrpo.training.start import Given


def train(
    config: Config,
    *,
    pipeline: Any = None,
    reward: Reward | None = None,
    prompts: list[str] | list[Prompt] | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    quiet: bool = False,
) -> Result:
    """Run a training job to its end, or go on with one.

    A pipeline, a reward function and prompts in memory take the place of those that `config` names. Raises what
    `vgrpo.training.loop.train` raises.
    """
    given = Given(pipeline=pipeline, reward=reward, prompts=prompts)
    return loop.train(config, given, resume=resume, allow_changes=allow_changes, listeners=() if quiet else (RunConsole(),))
