"""The model of a run: loaded, with its settings known, checked against the prompts, and ready to be trained."""

from contextlib import nullcontext
from dataclasses import replace

from vgrpo.core.processes import Processes
from vgrpo.models.defaults import BUNDLED, defaults_of
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import Adapter
from vgrpo.models.policy import Policy
from vgrpo.models.precision import chosen
from vgrpo.models.sources import check_sources
from vgrpo.rewards.frames import show_to
from vgrpo.training.config import Config
from vgrpo.training.events import Events
from vgrpo.training.shards.mesh import shards, spread_weights
from vgrpo.training.start_weights import make_trainable
from vgrpo.training.task import Given, Task
from vgrpo.training.task_prompts import RunPrompts
from vgrpo.training.texts import encode_ahead


def load_model(
    config: Config, given: Given, task: Task, prompts: RunPrompts, events: Events, processes: Processes
) -> tuple[Config, Policy, Adapter | None]:
    """The settings with what was left to the model, the model, and the adapter that the run goes on from, if any."""
    with nullcontext() if given.pipeline else events.phase("loading the model", detail=config.model):
        full, sharded = config.finetune == "full", shards(config, processes)
        policy = load_policy(config.model_settings, given.pipeline, full=full, sharded=sharded)
    config = _with_precision(_drawn_as(config, policy, events), policy, events)
    show_to((*task.panel.rewards, *task.monitors.values()), policy)
    check_sources(policy, prompts.listed)
    warn_of_cut_off(policy, prompts.listed)
    adapter = make_trainable(policy, None if full else config.lora, config.seed, processes)
    spread_weights(policy, config, processes)
    encode_ahead(policy, prompts, config.num_iterations, config.rollout.num_prompts, events, processes)
    return config, policy, adapter


def _with_precision(config: Config, policy: Policy, events: Events) -> Config:
    """What `auto` was found to mean becomes part of the settings, so that a run goes on as it began."""
    found = chosen(config.precision, policy.device)
    if config.precision == "auto" and policy.device.type == "cpu":
        events.notice(f"precision {found}: the faster one on this CPU")
    return replace(config, precision=found)


def _drawn_as(config: Config, policy: Policy, events: Events) -> Config:
    """Steps, time shift and guidance that were left to the model become part of the settings, too, aloud."""
    own = defaults_of(policy)
    found = config.resolved(own)
    if found != config and own != BUNDLED:
        events.notice(
            f"steps, time shift and guidance that are not given are the model's own: {own.num_steps}, {own.shift:.4g}, "
            f"{own.guidance:g}"
        )
    return found
