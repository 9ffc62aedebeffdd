"""The prompts of a run: of each of its tasks, to train on and held out."""

from dataclasses import dataclass, replace
from typing import Any

from vgrpo.core.seeds import seed_of
from vgrpo.core.types import MAIN, Prompt
from vgrpo.models.supported import edits_pictures
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.sources import (
    PromptSource,
    evaluation_prompts,
    from_listed,
    from_memory,
    from_tasks,
    held_out_name,
    training_prompts,
)
from vgrpo.prompts.splits import split_off, units
from vgrpo.support.checks import require
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.tasks import TaskConfig
from vgrpo.worlds.registry import find_world

GivenPrompts = list[str] | list[Prompt] | None
"""In memory."""
SHARE_HELD_OUT = 10  # one in so many of a user's own prompts, if nothing else is asked for


@dataclass(frozen=True, kw_only=True)
class RunPrompts:
    source: PromptSource
    """Of the prompts to train on."""
    held_out: list[Prompt]
    listed: list[Prompt]
    """All that are known before training."""
    trial: list[Prompt]
    """Two of each task."""
    notes: list[str]
    """What a person should know about them."""


def run_prompts(config: Config, given: GivenPrompts = None, pipeline: Any = None) -> RunPrompts:
    """Of all tasks of a run; `given` ones take the place of those that `config.prompts` names, a `pipeline` that of the model.

    Raises ValueError or FileNotFoundError for prompts that are not there or cannot be read.
    """
    if not config.tasks:
        return main_prompts(config, given, pipeline)
    count = config.eval.num_prompts and max(1, config.eval.num_prompts // (len(config.tasks) + 1))
    config = replace(config, eval=replace(config.eval, num_prompts=count))
    each = {MAIN: main_prompts(config, given, pipeline)}
    for task in config.tasks:
        each[task.name] = _of_task(config, task, pipeline)
    shares = {MAIN: 1.0} | {task.name: task.share for task in config.tasks}

    def named(part: str) -> list[Prompt]:
        return [replace(prompt, task=name) for name, found in each.items() for prompt in getattr(found, part)]

    return RunPrompts(
        source=from_tasks({name: found.source for name, found in each.items()}, shares),
        held_out=named("held_out"),
        listed=named("listed"),
        trial=named("trial"),
        notes=[note for found in each.values() for note in found.notes],
    )


def _of_task(config: Config, task: TaskConfig, pipeline: Any) -> RunPrompts:
    own = replace(config, tasks=(), prompts=task.prompts, eval_prompts=task.eval_prompts, prompt_shares=())
    return main_prompts(replace(own, seed=seed_of(config.seed, "task", task.name)), pipeline=pipeline)


def main_prompts(config: Config, given: GivenPrompts = None, pipeline: Any = None) -> RunPrompts:
    """Of the run's own task. Without `eval_prompts`, some of a user's own prompts are held out."""
    sources = edits_pictures(config.model, config.adapter, pipeline)
    if given is None and find_world(config.prompts):
        source, listed = training_prompts(config.prompts, config.seed, config.prompt_shares), list[Prompt]()
        name = held_out_name(config.prompts, config.eval_prompts)
        return _found(source, evaluation_prompts(name, config.eval.num_prompts, sources=sources), listed, [])
    listed, notes = (read_prompts(config.prompts, sources=sources) if given is None else from_memory(given)), list[str]()
    if config.eval_prompts is not None:
        held_out = evaluation_prompts(config.eval_prompts, config.eval.num_prompts, sources=sources)
    else:
        num_all = len(listed)
        listed, held_out = split_off(listed, _num_held_out(config, listed))
        if held_out:
            where = "the given prompts" if given is not None else config.prompts
            notes.append(
                f"{len(held_out)} of the {num_all} prompts of {where} are held out for the evaluation "
                "(--held-out-prompts says how many, --eval-prompts takes others)"
            )
        elif config.held_out_prompts is None and config.eval.num_prompts > 0:
            notes.append(
                f"{num_all} prompts are too few to hold some out, so there are no scores before and after "
                "(--held-out-prompts N holds out N, --eval-prompts takes others)"
            )
        held_out = held_out[: config.eval.num_prompts]
    return _found(from_listed(listed, config.prompt_shares, config.seed), held_out, listed, notes)


def _found(source: PromptSource, held_out: list[Prompt], listed: list[Prompt], notes: list[str]) -> RunPrompts:
    return RunPrompts(source=source, held_out=held_out, listed=listed + held_out, trial=source(0, 2), notes=notes)


def _num_held_out(config: Config, prompts: list[Prompt]) -> int:
    asked, num_units = config.held_out_prompts, len(set(units(prompts)))
    if asked is None:
        return min(num_units // SHARE_HELD_OUT, config.eval.num_prompts)
    require(
        asked < num_units, f"held_out_prompts={asked}: there are {num_units} different prompts, and some must stay to train on"
    )
    return asked
