"""How a run starts: everything that can be wrong is checked here, before the first iteration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vgrpo.core.seeds import seed_of
from vgrpo.core.types import Prompt
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import add_lora, check_init, fill_lora
from vgrpo.models.policy import Policy
from vgrpo.models.precision import device_of
from vgrpo.models.supported import check_model
from vgrpo.models.weight_sets import AverageWeights, WeightCopy, trainable
from vgrpo.objectives.base import WeightSet
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.sources import (
    PromptSource,
    evaluation_prompts,
    from_listed,
    from_memory,
    held_out_name,
    training_prompts,
)
from vgrpo.rewards.base import Reward, RewardError, score_images
from vgrpo.rewards.calls import limited
from vgrpo.rewards.registry import load_reward
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.support.files import OF_THE_DISK, explain
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.alarm import Alarm
from vgrpo.training.checkpoint import CheckpointWriter
from vgrpo.training.checkpoint_folder import all_in
from vgrpo.training.config import Config
from vgrpo.training.config_files import save_yaml
from vgrpo.training.events import Events
from vgrpo.training.folder import RunFolder, free_folder, open_folder
from vgrpo.training.health import Health
from vgrpo.training.metrics_file import MetricsFile
from vgrpo.training.optimizer import Optimizer, check_optimizer, make_adamw
from vgrpo.training.run import Run, Task
from vgrpo.training.trackers import TensorBoard, check_tensorboard
from vgrpo.worlds.registry import find_world, judge_of


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
    task, listed = _task(config, given)
    with _disk_explained(config):
        opened = open_folder(config, resume=resume, allow_changes=allow_changes, notice=events.notice)
        try:
            policy = load_policy(config.model_settings, given.pipeline, full=config.finetune == "full")
            warn_of_cut_off(policy, listed)
            _make_trainable(policy, config)
            _try_rewards(policy, [*task.rewards, *task.monitors.values()], task.prompts(0, 2))
            return _make_run(config, task, opened, policy, events)
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


def _task(config: Config, given: Given) -> tuple[Task, list[Prompt]]:
    """What is trained on, and all prompts that are known before training."""
    source, held_out, listed = _prompts(config, given.prompts)
    where, own = config.device_of_rewards, given.reward
    names = (*config.monitor, *(config.reward if own is None else ()))
    rewards = [own] if own is not None else [load_reward(name, where) for name in config.reward]
    task = Task(
        rewards=[limited(reward, config.reward_timeout) for reward in rewards],
        monitors={name: limited(load_reward(name, where), config.reward_timeout) for name in config.monitor},
        prompts=source,
        eval_prompts=held_out,
        world=judge_of(held_out, names, [config.prompts, config.eval_prompts]) if held_out else None,
    )
    return task, listed


def _make_run(config: Config, task: Task, opened: RunFolder, policy: Policy, events: Events) -> Run:
    copies = _copies(policy, config)
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
    if run.config.tensorboard:
        run.events.listeners.insert(1, TensorBoard(run.folder))


def _prompts(config: Config, given: list[str] | list[Prompt] | None) -> tuple[PromptSource, list[Prompt], list[Prompt]]:
    """Where training prompts come from, the held-out ones, and all that are known before training."""
    listed: list[Prompt] = []
    if given is None and find_world(config.prompts):
        source = training_prompts(config.prompts, config.seed, config.prompt_shares)
    else:
        listed = read_prompts(config.prompts) if given is None else from_memory(given)
        source = from_listed(listed, config.prompt_shares, config.seed)
    eval_name = config.eval_prompts if given is not None else held_out_name(config.prompts, config.eval_prompts)
    held_out = evaluation_prompts(eval_name, config.eval.num_prompts)
    return source, held_out, listed + held_out


@out_of_memory_while("loading the model")
def _make_trainable(policy: Policy, config: Config) -> None:
    pipeline = policy.pipeline
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    if config.finetune == "full":
        policy.module.float().requires_grad_(True)
    else:
        add_lora(policy, config.lora, seed_of(config.seed, "lora"))


def _copies(policy: Policy, config: Config) -> dict[WeightSet, WeightCopy]:
    """Put in the adapter that the run goes on from, if any, between copying the untrained model ("ref") and the start ("old").

    Measured from the start of each, a curriculum's stages would leave the untrained model's images step by step.
    """
    kept = config.objective.copies
    copies: dict[WeightSet, WeightCopy] = {name: WeightCopy(policy.module) for name in kept if name == "ref"}
    fill_lora(policy, config.lora)
    return copies | {name: WeightCopy(policy.module) for name in kept if name == "old"}


def _make_optimizer(policy: Policy, config: Config, average: AverageWeights) -> Optimizer:
    parameters = list(trainable(policy.module).values())
    num_steps = config.num_iterations * config.update.num_steps
    return Optimizer(
        inner=make_adamw(parameters, config.update),
        parameters=parameters,
        lr=config.update.lr,
        num_warmup_steps=config.update.num_warmup_steps,
        max_grad_norm=config.update.max_grad_norm,
        max_bad_steps=config.update.max_bad_steps,
        num_decay_steps=num_steps if config.update.lr_schedule == "linear" else None,
        after_step=average.step,
    )


@out_of_memory_while("trying the rewards on two images")
def _try_rewards(policy: Policy, rewards: list[Reward], prompts: list[Prompt]) -> None:
    """Call every reward once on two cheap images, so that a broken one fails now and not after minutes."""
    noise = torch.stack([named_noise(policy, "trial", index) for index in range(2)])
    _, images = draw_images(policy, prompts, noise, Sampling(solver="euler", num_steps=2))
    for reward in rewards:
        try:
            score_images(reward, images, prompts)
        except RewardError as error:
            name = getattr(reward, "__name__", type(reward).__name__)
            raise ValueError(f"reward {name}, tried on two images before training: {error}") from error
