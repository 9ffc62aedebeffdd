"""How a run starts: everything that can be wrong is checked here, before the first iteration."""

import os
import time
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
from vgrpo.prompts.sources import (
    PromptSource,
    evaluation_prompts,
    from_list,
    from_sprites,
    from_tags,
    held_out_name,
    read_prompts,
    sprites_tags,
)
from vgrpo.rewards.registry import Reward, RewardError, load_reward, score_images
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training import checkpoint
from vgrpo.training.alarm import Alarm
from vgrpo.training.config import Config
from vgrpo.training.config_files import save_yaml
from vgrpo.training.events import Events
from vgrpo.training.health import Health
from vgrpo.training.optimizer import Optimizer, check_optimizer, make_adamw
from vgrpo.training.run import Run
from vgrpo.training.trackers import MetricsFile, TensorBoard


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is in memory already and takes the place of what a config names; None is what the config says."""

    pipeline: Any = None
    reward: Reward | None = None
    prompts: list[str] | list[Prompt] | None = None


def start_run(config: Config, given: Given | None = None, *, resume: bool = False, events: Events | None = None) -> Run:
    """Check everything, cheapest first, then load the model and, to resume, the last checkpoint."""
    given = given or Given()
    source, held_out, listed = _prompts(config, given.prompts)
    where, pipeline = config.device_of_rewards, given.pipeline
    rewards = [given.reward] if given.reward is not None else [load_reward(name, where) for name in config.reward]
    monitors = {name: load_reward(name, where) for name in config.monitor}
    check_init(config.lora)
    check_optimizer(config.update)
    if pipeline is None:
        check_model(config.model, config.adapter)
        device_of(config.device)
    folder = _run_folder(config, resume)
    policy = load_policy(config.model_settings, pipeline, full=config.finetune == "full")
    warn_of_cut_off(policy, listed)
    _make_trainable(policy, config)
    copies = _copies(policy, config)
    _try_rewards(policy, [*rewards, *monitors.values()], source(0, 2))
    average = AverageWeights(policy.module, config.ema_decay)
    events = events or Events()
    run = Run(
        config=config,
        folder=folder,
        policy=policy,
        rewards=rewards,
        monitors=monitors,
        prompts=source,
        eval_prompts=held_out,
        optimizer=_make_optimizer(policy, config, average),
        average=average,
        copies=copies,
        events=events,
        alarm=Alarm(list(config.monitor)),
        health=Health(lags="old" in copies),
        past=[],
    )
    if resume:
        run.load_state_dict(_newest(folder).state)
    else:
        save_yaml(config, folder / "config.yaml")
    _add_files(run)
    return run


def _add_files(run: Run) -> None:
    """The files that listen to the run; what they hold of a resumed run's past is its own past, too."""
    metrics = MetricsFile(run.folder, run.iteration)
    run.past.extend(metrics.past)
    for values in run.past:
        run.alarm.add(values)
        run.health.add(values)
    run.events.listeners.insert(0, metrics)
    if run.config.tensorboard:
        run.events.listeners.insert(1, TensorBoard(run.folder))


def _prompts(config: Config, given: list[str] | list[Prompt] | None) -> tuple[PromptSource, list[Prompt], list[Prompt]]:
    """Where training prompts come from, the held-out ones, and all that are known before training."""
    if given is not None and not given:
        raise ValueError("prompts is empty; give at least one")
    listed: list[Prompt] = []
    tags = sprites_tags(config.prompts) if given is None else None
    if tags:
        if config.prompt_shares:
            raise ValueError(f"prompt_shares={config.prompt_shares}: shares need a file of prompts")
        source = from_sprites(tags, config.seed)
    else:
        items = read_prompts(config.prompts) if given is None else given
        listed = [Prompt(text=item) if isinstance(item, str) else item for item in items]
        shares, seed = config.prompt_shares, config.seed
        source = from_tags(listed, shares, seed) if shares else from_list(listed, seed)
    eval_name = config.eval_prompts if given is not None else held_out_name(config.prompts, config.eval_prompts)
    held_out = evaluation_prompts(eval_name, config.eval.num_prompts)
    return source, held_out, listed + held_out


def _run_folder(config: Config, resume: bool) -> Path:
    if not resume:
        return new_folder(config.output_dir, config.model)
    if config.output_dir is None:
        raise ValueError("resume: name the run by its output_dir")
    _newest(config.output_dir)
    return config.output_dir


def _newest(folder: Path) -> checkpoint.Loaded:
    loaded = checkpoint.load_newest(folder / "checkpoints")
    if loaded is None:
        raise FileNotFoundError(f"nothing to resume: {folder} holds no checkpoint; start without --resume")
    return loaded


def new_folder(folder: Path | None, model: str) -> Path:
    """Make the folder of a run, by default one named by its model and the time.

    Raises FileExistsError if it holds another run, PermissionError if it cannot be written.
    """
    folder = Path(folder or time.strftime(f"runs/{Path(model).name}-%Y%m%d-%H%M%S"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"--output-dir {folder} is not empty: it may hold another run; name a new folder, or add --resume"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"--output-dir {folder} cannot be made ({error.strerror}); name a folder you may write"
        ) from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--output-dir {folder} cannot be written; name a folder you may write")
    return folder


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
