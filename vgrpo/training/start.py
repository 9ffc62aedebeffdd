"""How a run starts: everything that can be wrong is checked here, before the first iteration."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from vgrpo.core.processes import ALONE, Processes
from vgrpo.models.defaults import BUNDLED, defaults_of
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import Adapter, check_init
from vgrpo.models.policy import Policy
from vgrpo.models.precision import chosen, device_of
from vgrpo.models.sources import check_sources
from vgrpo.models.supported import check_model
from vgrpo.models.weight_sets import AverageWeights, WeightCopy, trainable
from vgrpo.rewards.frames import show_to
from vgrpo.support.files import OF_THE_DISK, explain
from vgrpo.training.checkpoints.folder import all_in
from vgrpo.training.folder import RunFolder, as_it_began, free_folder, open_folder, settings_of
from vgrpo.training.optimizer import Optimizer, check_optimizer, make_adamw
from vgrpo.training.processes import together
from vgrpo.training.record.alarm import Alarm
from vgrpo.training.record.events import Events
from vgrpo.training.record.groups import GroupsFile
from vgrpo.training.record.health import Health
from vgrpo.training.record.metrics_file import MetricsFile
from vgrpo.training.record.sinks import check_installed
from vgrpo.training.record.trackers import Tracker
from vgrpo.training.rollouts.starting import check_served, connected_workers
from vgrpo.training.rollouts.state import Ahead
from vgrpo.training.rollouts.workers import RolloutWorkers
from vgrpo.training.run import Run
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import save_yaml, to_dict
from vgrpo.training.shards.mesh import check_shards, shards, spread_weights
from vgrpo.training.shards.writer import SpreadWriter
from vgrpo.training.start_weights import copies_of_start, make_trainable
from vgrpo.training.tasks.prompts import RunPrompts, run_prompts
from vgrpo.training.tasks.task import Given as Given
from vgrpo.training.tasks.task import Task, make_task
from vgrpo.training.tasks.texts import encode_ahead
from vgrpo.training.tasks.trial import check_judged, try_rewards


def start_run(
    config: Config,
    given: Given | None = None,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    events: Events | None = None,
    processes: Processes = ALONE,
) -> Run:
    """Check everything, cheapest first, then load the model and, to resume, the newest checkpoint that is whole.

    If that fails, a folder that was made for the run goes again. Of several processes the first alone touches the folder, and
    reads the adapter to go on from.
    """
    given, events = given or Given(), events or Events()
    _check(config, given, processes, resume=resume)
    together.check_several(config.rollout.num_prompts, config.device, processes)
    check_shards(config, processes)
    prompts = run_prompts(config, given.prompts, given.pipeline)
    task = make_task(config, given, prompts)
    with ExitStack() as failed:
        failed.callback(task.close)  # processes of rewards would outlive a start that fails
        check_judged(task.panel, prompts.listed)
        together.check_same(settings_of(config), [*prompts.listed, *prompts.trial, *prompts.held_out], processes)
        with _disk_explained(config):
            opener = partial(open_folder, config, resume=resume, allow_changes=allow_changes, notice=events.notice)
            opened = together.open_together(opener, processes)
            failed.callback(opened.abandon)
            run = _load_run(config, given, task, prompts, opened, events, processes)
        failed.pop_all()
    return run


def _load_run(
    config: Config, given: Given, task: Task, prompts: RunPrompts, opened: RunFolder, events: Events, processes: Processes
) -> Run:
    """With all that takes minutes."""
    if opened.loaded is not None:
        config = as_it_began(config, opened.loaded.state["settings"])
    precision = together.agreed_precision(config.precision, config.device, given.pipeline, processes)
    config = replace(config, precision=precision)
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
    # A whole pipeline is saved with its encoders, and edits are encoded with their pictures as they come.
    if policy.store is not None and given.pipeline is None and not (full or policy.takes_image):
        policy.unload_encoders()
    if adapter is not None and config.lora.init is None and opened.loaded is None:
        events.notice("the pipeline's active LoRA is trained on")
    try_rewards(policy, task, prompts.trial)
    for note in [*prompts.notes, *idle_settings(config)]:
        events.notice(note)
    workers = connected_workers(policy, given.rollout_workers, events.notice)
    return _make_run(config, task, opened, policy, adapter, workers, events, processes)


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


def _check(config: Config, given: Given, processes: Processes, *, resume: bool) -> None:
    """What needs nothing to be loaded."""
    if given.pipeline is None:
        device_of(config.device)
        check_model(config.model, config.adapter)
    device_of(config.device_of_rewards, "reward_device")
    check_optimizer(config.update)
    for name in config.trackers:
        check_installed(name)
    check_served(config.objective, config.finetune, given.rollout_workers)
    if processes.rank == 0:
        check_init(config.lora)
        if not resume:
            free_folder(config.output_dir, config.model)


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


def _make_run(
    config: Config,
    task: Task,
    opened: RunFolder,
    policy: Policy,
    adapter: Adapter | None,
    workers: RolloutWorkers | None,
    events: Events,
    processes: Processes,
) -> Run:
    copies = copies_of_start(policy, config.objective.copies, config.lora, adapter)
    place, keep = opened.path / "checkpoints", config.keep_checkpoints
    if policy.spread is None or config.finetune != "full":
        writer = together.checkpoint_writer(place, keep, processes)
    else:
        writer = SpreadWriter(place, keep, policy.spread, processes)
    average = AverageWeights(policy.module, config.ema_decay, policy.copies_device)
    run = Run(
        config=config,
        task=task,
        folder=opened.path,
        lock=opened.lock,
        writer=writer,
        policy=policy,
        optimizer=_make_optimizer(policy, config, average),
        average=average,
        copies=copies,
        events=events,
        alarm=Alarm(list(config.monitor)),
        health=Health(lags="old" in copies or config.rollout.lag > 0),
        past=[],
        processes=processes,
        ahead=Ahead(workers=workers, drew=WeightCopy(policy.module, policy.copies_device) if config.rollout.lag > 0 else None),
        finished=opened.finished,
    )
    if opened.loaded is not None:
        run.load_state_dict(opened.loaded.state)
    if processes.rank == 0:
        save_yaml(config, opened.path / "config.yaml")
        _add_files(run)
    together.check_same_weights(run.optimizer.parameters, run.replicas)
    return run


def _add_files(run: Run) -> None:
    """The files that listen to the run; what they hold of a resumed run's past is its own past, too."""
    metrics = run.files.enter_context(MetricsFile(run.folder, run.iteration))
    run.past.extend(metrics.past)
    if metrics.note:
        run.events.notice(metrics.note)
    run.events.listeners.insert(0, metrics)
    run.events.listeners.insert(1, GroupsFile(run.folder, run.task.panel, run.config.objective.drawing, run.iteration))
    for name in dict.fromkeys(run.config.trackers):
        run.events.listeners.append(Tracker(name, run.folder, to_dict(run.config), run.iteration, run.events.notice))


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


def idle_settings(config: Config) -> list[str]:
    """A notice of each setting that the first optimiser step after a rollout makes no use of, where there is no second."""
    objective = config.objective
    if config.update.num_steps > 1 or config.rollout.lag > 0 or "old" in objective.copies:
        return []
    return [
        f"objective.{name}={getattr(objective, name)} does nothing with one optimiser step per rollout: all its ratios are 1; "
        "update.num_minibatches takes more steps"
        for name in objective.idle_on_policy
    ]
