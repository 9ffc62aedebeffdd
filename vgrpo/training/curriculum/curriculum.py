"""A curriculum: runs one after the other on one adapter, with the rewards of all stages measured after each.

A stage is an ordinary run in a folder of its own that starts from the adapter the stage before saved, with a fresh optimiser.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vgrpo.core.processes import ALONE, PeerError, Processes
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import check_init
from vgrpo.models.precision import device_of
from vgrpo.models.supported import check_model
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.registry import load_reward
from vgrpo.support.checks import require
from vgrpo.support.files import clear_drafts
from vgrpo.support.interrupts import StopRequested
from vgrpo.support.lock import RunLock
from vgrpo.support.memory_errors import GpuMemoryError
from vgrpo.training.curriculum.score_table import ScoreTable
from vgrpo.training.folder import free_folder, new_folder, settings_of, take_away
from vgrpo.training.loop import Result, train
from vgrpo.training.processes.together import check_same, check_several
from vgrpo.training.record.events import Listener
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import save_yaml
from vgrpo.training.settings.stages import Curriculum
from vgrpo.training.shards.mesh import shards
from vgrpo.training.start import Given
from vgrpo.training.tasks.prompts import run_prompts

LOSE_NOTHING = (KeyboardInterrupt, StopRequested, RewardError, GpuMemoryError, PeerError)
"""What may end a stage."""
Say = Callable[[str], None]
"""Takes a line, or several, for a person who watches."""


def silent(text: str) -> None:
    return


def train_curriculum(
    curriculum: Curriculum,
    *,
    pipeline: Any = None,
    resume: bool = False,
    listeners: Iterable[Listener] = (),
    say: Say = silent,
    processes: Processes = ALONE,
) -> Result:
    """Run all stages, or go on with them; a pipeline in memory takes the place of the named model. `listeners` hear every
    stage's events. Several `processes` share each stage; the first writes the folder and speaks.

    Raises what `vgrpo.train` raises; all stages' prompts, rewards and the model are checked before the first.
    """
    if resume and curriculum.output_dir is None:
        raise ValueError("--resume: name the curriculum's folder, by --output-dir or by its config.yaml")
    folder = Path(str(curriculum.output_dir))
    begun = resume and processes.rank == 0 and (folder / "config.yaml").is_file()
    if processes.rank == 0 and not begun:
        folder = free_folder(curriculum.output_dir, curriculum.stages[0].config.model)
    _check(curriculum, pipeline, processes)
    with _opened(curriculum, folder, processes, begun=begun) as folder:
        pipeline = load_policy(curriculum.stages[0].config.model_settings, pipeline).pipeline
        return _run(curriculum, folder, pipeline, listeners, say if processes.rank == 0 else silent, processes)


@contextmanager
def _opened(curriculum: Curriculum, folder: Path, processes: Processes, *, begun: bool) -> Iterator[Path]:
    """The folder, held by process 0 while the curriculum is at work there. The others are told its name and leave it alone."""
    if processes.rank > 0:
        yield Path(processes.told(b"").decode())
        return
    made = [] if begun else new_folder(folder)
    lock = RunLock(folder)
    lock.take()
    try:
        clear_drafts(folder)
        if not begun:
            save_yaml(curriculum, folder / "config.yaml")
        processes.told(str(folder).encode())
        yield folder
    except StopRequested:
        raise
    except BaseException:
        take_away(made)
        raise
    finally:
        lock.release()


def _run(
    curriculum: Curriculum, folder: Path, pipeline: Any, listeners: Iterable[Listener], say: Say, processes: Processes
) -> Result:
    """The stages that are left."""
    scores = ScoreTable(curriculum, folder, pipeline, processes)
    again = f"to go on with all stages,\n  vgrpo train {folder}/config.yaml --resume"
    if not scores.columns:
        say(f"run folder {folder}\nevaluating the base model on the rewards of all stages")
        with _told_how_to_go_on(say, again, after=(StopRequested,)):  # after anything else nothing is left of it
            scores.add("base")
    last = len(curriculum.stages) - 1
    # A finished curriculum, resumed, repeats the end of its last stage, as a finished run does.
    for index in range(min(len(scores.columns) - 1, last), last + 1):
        name, config = curriculum.folder_name(index), stage_config(curriculum, folder, index)
        say(f"\nstage {index + 1} of {last + 1}: {curriculum.stages[index].name}")
        with _told_how_to_go_on(say, f"or, {again}"):
            train(config, Given(pipeline=pipeline), resume=True, listeners=listeners, processes=processes)
        say("evaluating on the rewards of all stages")
        with _told_how_to_go_on(say, again):
            scores.add(name)
        say(scores.text())
        if index < last:
            pipeline.unload_lora_weights()  # the next stage adds its own
    return Result(output_dir=folder, pipeline=pipeline, evaluation=scores.content())


@contextmanager
def _told_how_to_go_on(say: Say, text: str, after: tuple[type[BaseException], ...] = LOSE_NOTHING) -> Iterator[None]:
    try:
        yield
    except after:
        say(text)
        raise


def stage_config(curriculum: Curriculum, folder: Path, index: int) -> Config:
    """A stage's settings as it runs: in its folder, from the adapter of the stage before, with randomness of its own, so that
    stages on the same prompts take them in another order."""
    config = curriculum.stages[index].config
    before = config.lora.init if index == 0 else folder / curriculum.folder_name(index - 1) / "lora"
    return replace(
        config,
        output_dir=folder / curriculum.folder_name(index),
        seed=config.seed * len(curriculum.stages) + index,
        lora=replace(config.lora, init=before),
    )


def _check(curriculum: Curriculum, pipeline: Any, processes: Processes) -> None:
    """What would otherwise fail hours later, at the start of a stage."""
    configs = [stage_config(curriculum, Path("folder"), index) for index in range(len(curriculum.stages))]
    if pipeline is None:
        device_of(configs[0].device)
        check_model(configs[0].model, configs[0].adapter)
    processes.require_same("stages", " ".join(stage.name for stage in curriculum.stages).encode())
    for config in configs:
        check_several(config.rollout.num_prompts, config.device, processes)
        require(
            not shards(config, processes),
            f"memory.shard={config.memory.shard}: the stages of a curriculum share a model that is whole in every process; "
            "leave it out, or train the stages one by one, each with --lora.init",
        )
        prompts = run_prompts(config, pipeline=pipeline)
        check_same(settings_of(config), [*prompts.listed, *prompts.trial, *prompts.held_out], processes)
    if processes.rank == 0:
        check_init(configs[0].lora)
    for name in dict.fromkeys(name for config in configs for name in config.reward_names):
        load_reward(name, configs[0].device_of_rewards)
