"""How a run starts: everything that can be wrong is checked here, before the first iteration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vgrpo.core.seeds import seed_of
from vgrpo.core.types import MAIN, Prompt
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import Adapter, add_lora, check_init, fill_lora, read_init, take_lora
from vgrpo.models.policy import Policy
from vgrpo.models.precision import chosen, device_of
from vgrpo.models.supported import check_model
from vgrpo.models.weight_sets import AverageWeights, WeightCopy, trainable
from vgrpo.objectives.base import WeightSet
from vgrpo.rewards.base import Reward
from vgrpo.rewards.calls import limited
from vgrpo.rewards.panel import Panel
from vgrpo.rewards.registry import load_reward
from vgrpo.support.checks import require
from vgrpo.support.files import OF_THE_DISK, explain
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.alarm import Alarm
from vgrpo.training.checkpoint import CheckpointWriter
from vgrpo.training.checkpoint_folder import all_in
from vgrpo.training.config import Config
from vgrpo.training.config_files import save_yaml
from vgrpo.training.events import Events
from vgrpo.training.folder import RunFolder, free_folder, open_folder
from vgrpo.training.groups import GroupsFile
from vgrpo.training.health import Health
from vgrpo.training.metrics_file import MetricsFile
from vgrpo.training.optimizer import Optimizer, check_optimizer, make_adamw
from vgrpo.training.run import Run, Task
from vgrpo.training.task_prompts import RunPrompts, run_prompts
from vgrpo.training.tasks import weight_table
from vgrpo.training.trackers import TensorBoard, check_tensorboard
from vgrpo.training.trial import check_judged, try_rewards
from vgrpo.worlds.registry import judge_of

GIVEN = "(given)"  # the place of a reward in memory among the names


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is in memory already and takes the place of what a config names; None is what the config says."""

    pipeline: Any = None
    reward: Reward | None = None
    prompts: list[str] | list[Prompt] | None = None


def start_run(
    config: Config,
    given: Given | None = None,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    events: Events | None = None,
) -> Run:
    """Check everything, cheapest first, then load the model and, to resume, the newest checkpoint that is whole.

    If that fails, a folder that was made for the run goes again.
    """
    given, events = given or Given(), events or Events()
    _check(config, given, resume=resume)
    prompts = run_prompts(config, given.prompts)
    task = _task(config, given, prompts)
    check_judged(task.panel, prompts.listed)
    with _disk_explained(config):
        opened = open_folder(config, resume=resume, allow_changes=allow_changes, notice=events.notice)
        try:
            if opened.loaded is not None and config.precision == "auto":
                config = replace(config, precision=opened.loaded.state["settings"]["precision"])
            policy = load_policy(config.model_settings, given.pipeline, full=config.finetune == "full")
            config = _with_precision(config, policy, events)
            warn_of_cut_off(policy, prompts.listed)
            adapter = _make_trainable(policy, config)
            if adapter is not None and config.lora.init is None and not resume:
                events.notice("the pipeline's active LoRA is trained on")
            try_rewards(policy, task, prompts.trial)
            for note in prompts.notes:
                events.notice(note)
            return _make_run(config, task, opened, policy, adapter, events)
        except BaseException:
            opened.abandon()
            raise


@contextmanager
def _disk_explained(config: Config) -> Iterator[None]:
    """Raise OSError that says what is saved and how to go on, where the disk refuses a file."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        folder = Path(config.output_dir or "runs")
        saved = [path for _, path in all_in(folder / "checkpoints")]
        raise OSError(explain(error, folder, str(saved[-1]) if saved else None)) from error


def _check(config: Config, given: Given, *, resume: bool) -> None:
    """What needs nothing to be loaded."""
    if given.pipeline is None:
        device_of(config.device)
        check_model(config.model, config.adapter)
    device_of(config.device_of_rewards, "reward_device")
    check_init(config.lora)
    check_optimizer(config.update)
    if config.tensorboard:
        check_tensorboard()
    if not resume:
        free_folder(config.output_dir, config.model)


def _with_precision(config: Config, policy: Policy, events: Events) -> Config:
    """What `auto` was found to mean becomes part of the settings, so that a run goes on as it began."""
    found = chosen(config.precision, policy.device)
    if config.precision == "auto" and policy.device.type == "cpu":
        events.notice(f"precision {found}: the faster one on this CPU")
    return replace(config, precision=found)


def _task(config: Config, given: Given, prompts: RunPrompts) -> Task:
    """What is trained on."""
    where, held_out = config.device_of_rewards, prompts.held_out
    own = config.reward if given.reward is None else (GIVEN,)
    weights_of_own = config.reward_weights if given.reward is None else None
    tasks = {MAIN: (own, weights_of_own)} | {task.name: (task.reward, task.reward_weights) for task in config.tasks}
    names, weights = weight_table(tasks)
    loaded = [given.reward if name == GIVEN and given.reward is not None else load_reward(name, where) for name in names]
    return Task(
        panel=Panel(rewards=[limited(reward, config.reward_timeout) for reward in loaded], weights=weights),
        monitors={name: limited(load_reward(name, where), config.reward_timeout) for name in config.monitor},
        prompts=prompts.source,
        eval_prompts=held_out,
        world=judge_of(held_out, (*config.monitor, *names), [config.prompts, config.eval_prompts]) if held_out else None,
    )


def _make_run(config: Config, task: Task, opened: RunFolder, policy: Policy, adapter: Adapter | None, events: Events) -> Run:
    copies = _copies(policy, config, adapter)
    average = AverageWeights(policy.module, config.ema_decay)
    run = Run(
        config=config,
        task=task,
        folder=opened.path,
        lock=opened.lock,
        writer=CheckpointWriter(opened.path / "checkpoints", config.keep_checkpoints),
        policy=policy,
        optimizer=_make_optimizer(policy, config, average),
        average=average,
        copies=copies,
        events=events,
        alarm=Alarm(list(config.monitor)),
        health=Health(lags="old" in copies),
        past=[],
        finished=opened.finished,
    )
    if opened.loaded is not None:
        run.load_state_dict(opened.loaded.state)
    save_yaml(config, opened.path / "config.yaml")
    _add_files(run)
    return run


def _add_files(run: Run) -> None:
    """The files that listen to the run; what they hold of a resumed run's past is its own past, too."""
    metrics = MetricsFile(run.folder, run.iteration)
    run.past.extend(metrics.past)
    if metrics.note:
        run.events.notice(metrics.note)
    run.events.listeners.insert(0, metrics)
    run.events.listeners.insert(1, GroupsFile(run.folder, run.task.panel.names))
    if run.config.tensorboard:
        run.events.listeners.insert(2, TensorBoard(run.folder))


@out_of_memory_while("loading the model")
def _make_trainable(policy: Policy, config: Config) -> Adapter | None:
    """Set up what is trained; returns the adapter that the run goes on from, if any."""
    pipeline = policy.pipeline
    if config.finetune == "full":
        require(
            not getattr(policy.module, "peft_config", None),
            "finetune=full: the pipeline has an active LoRA, which would be trained apart from its layers; make it part of the "
            "model, pipeline.fuse_lora() then pipeline.unload_lora_weights(), or take it off with the latter alone",
        )
        adapter = None
    else:
        adapter = take_lora(policy, config.lora) or read_init(policy, config.lora)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    if config.finetune == "full":
        policy.module.float().requires_grad_(True)
    else:
        add_lora(policy, config.lora, seed_of(config.seed, "lora"))
    return adapter


def _copies(policy: Policy, config: Config, adapter: Adapter | None) -> dict[WeightSet, WeightCopy]:
    """Put in the adapter that the run goes on from, if any, between copying the untrained model ("ref") and the start ("old").

    Measured from the start of each, a curriculum's stages would leave the untrained model's images step by step.
    """
    kept = config.objective.copies
    copies: dict[WeightSet, WeightCopy] = {name: WeightCopy(policy.module) for name in kept if name == "ref"}
    if adapter is not None:
        fill_lora(policy, config.lora, adapter)
    return copies | {name: WeightCopy(policy.module) for name in kept if name == "old"}


def _make_optimizer(policy: Policy, config: Config, average: AverageWeights) -> Optimizer:
    parameters = list(trainable(policy.module).values())
    num_steps = config.num_iterations * config.update.num_steps
    return Optimizer(
        inner=make_adamw(parameters, config.update, config.learning_rate),
        parameters=parameters,
        lr=config.learning_rate,
        num_warmup_steps=config.update.num_warmup_steps,
        max_grad_norm=config.update.max_grad_norm,
        max_bad_steps=config.update.max_bad_steps,
        num_decay_steps=num_steps if config.update.lr_schedule == "linear" else None,
        after_step=average.step,
    )
