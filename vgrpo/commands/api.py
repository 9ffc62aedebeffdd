"""`vgrpo.train` and `vgrpo.train_curriculum` for Python: training with the console's display."""

from collections.abc import Sequence
from contextlib import closing, nullcontext
from typing import Any

from vgrpo.commands.console import RunConsole
from vgrpo.core.processes import Processes
from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Reward
from vgrpo.training import loop
from vgrpo.training.curriculum import curriculum as stages
from vgrpo.training.loop import Result
from vgrpo.training.processes.joining import joined
from vgrpo.training.record.events import Listener
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum
from vgrpo.training.start import Given
from vgrpo.workbench.report import ReportFile


def train(
    config: Config,
    *,
    pipeline: Any = None,
    reward: Reward | None = None,
    prompts: list[str] | list[Prompt] | None = None,
    rollout_workers: Sequence[str] = (),
    resume: bool = False,
    allow_changes: bool = False,
    quiet: bool = False,
    processes: Processes | None = None,
) -> Result:
    """Run a training job to its end, or go on with one.

    A pipeline, a reward function and prompts in memory take the place of those that `config` names. `rollout_workers` are
    addresses of processes that draw the images (`vgrpo serve-rollout`), or `@FILE` with one a line, which may change. In a
    program that torchrun has started several times, they share the run; `processes` are others that have come together. Raises
    what `vgrpo.training.loop.train` raises.
    """
    given = Given(pipeline=pipeline, reward=reward, prompts=prompts, rollout_workers=rollout_workers)
    together = joined() if processes is None else nullcontext(processes)
    with together as everyone, nullcontext() if quiet else closing(RunConsole()) as console:
        listeners: list[Listener] = [ReportFile(), console] if console else [ReportFile()]
        return loop.train(config, given, resume=resume, allow_changes=allow_changes, listeners=listeners, processes=everyone)


def train_curriculum(
    curriculum: Curriculum,
    *,
    pipeline: Any = None,
    resume: bool = False,
    quiet: bool = False,
    processes: Processes | None = None,
) -> Result:
    """Run all stages, or go on with them; a pipeline in memory takes the place of the named model. Programs that torchrun has
    started share it, as `train` does."""
    together = joined() if processes is None else nullcontext(processes)
    with together as everyone, nullcontext() if quiet else closing(RunConsole()) as console:
        listeners: list[Listener] = [ReportFile(), console] if console else [ReportFile()]
        say = console.say if console else stages.silent
        return stages.train_curriculum(
            curriculum, pipeline=pipeline, resume=resume, listeners=listeners, say=say, processes=everyone
        )
