"""The loop, to be read first: draw groups of images, judge them, update the model, again.

One iteration is rollout -> rewards -> advantages -> points -> optimiser steps. Nothing here knows which algorithm, model or
reward is at work.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.types import Batch
from vgrpo.evaluation.core import read_eval, write_eval
from vgrpo.models.summed import summed
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.support.files import write_whole
from vgrpo.support.interrupts import Interrupts
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.batch import advantages_of, make_batch
from vgrpo.training.best import evaluate_on_the_way, evaluate_run, is_due, keep_best, recover_best
from vgrpo.training.checkpoints.resume import FINISHED
from vgrpo.training.control.steering import Steering
from vgrpo.training.control.stopping import closed_after, saved_on_stop, watched
from vgrpo.training.drawing import Plan, begin_ahead, coming_images, finished_rollout, rollout_values
from vgrpo.training.judges import judged, monitor_values
from vgrpo.training.metrics import iteration_values, memory_values, nfe_values
from vgrpo.training.processes.together import check_same_weights, check_together
from vgrpo.training.record.events import Events, ImagesJudged, Listener, PhaseAdvanced, RunFinished, RunStarted, Values
from vgrpo.training.rollouts.state import AS_LONG_AS_IT_TAKES
from vgrpo.training.run import Run, save_samples
from vgrpo.training.settings.config import Config
from vgrpo.training.start import Given, start_run
from vgrpo.training.update import (
    StepMetrics,
    backward,
    frozen_velocities,
    gathered,
    kept_velocities,
    minibatches,
    sum_gradients,
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `train` leaves: the run's folder, the pipeline with the tuned weights in it, and eval.json's content."""

    output_dir: Path
    pipeline: Any
    evaluation: dict[str, Any]


def train(
    config: Config,
    given: Given | None = None,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    listeners: Iterable[Listener] = (),
    processes: Processes = ALONE,
) -> Result:
    """Run a training job to its end, or go on with one. `given` takes the place of what `config` names. Several `processes`
    share it; the first writes the folder, and its listeners are told.

    Raises ValueError or an OSError at start-up for settings that cannot work. Later, with all iterations before saved:
    StopRequested after a signal, RewardError when a whole batch of rewards fails, GpuMemoryError, BadStepsError, OSError for a
    disk that fails, PeerError for another process that is lost. KeyboardInterrupt, of a second Ctrl-C, leaves at once.
    """
    events = Events(listeners if processes.rank == 0 else ())
    run = start_run(config, given, resume=resume, allow_changes=allow_changes, events=events, processes=processes)
    with closed_after(run), Interrupts() as interrupts, saved_on_stop(run), watched(run):
        run.check = partial(check_together, interrupts, processes)
        events.emit(RunStarted(folder=run.folder, config=run.config, iteration=run.iteration, past=run.past))
        if run.finished and run.iteration >= config.num_iterations:
            events.notice("this run is finished; a larger --num-iterations goes on with it")
            evaluation = read_eval(run.folder)
        else:
            steering = Steering(run)
            _begin(run)
            while _goes_on(run):
                steering.obey()
                run.check()
                run.finish_iteration(iterate(run))
                _leave_due(run)
            run.ahead.close(AS_LONG_AS_IT_TAKES)
            evaluation = _end(run)
    run.average.put_in()
    run.policy.load_encoders()
    return Result(output_dir=run.folder, pipeline=run.policy.pipeline, evaluation=evaluation)


def _begin(run: Run) -> None:
    """Before the first iteration: a checkpoint, so that the run can go on whatever comes, pictures and scores of the base."""
    if run.processes.rank == 0:
        (run.folder / FINISHED).unlink(missing_ok=True)
    if run.iteration > 0:
        recover_best(run)
        if is_due(run, run.config.eval.every):  # it was stopped while that went on
            evaluate_on_the_way(run, run.config.eval_sampling)
        return
    run.save_checkpoint()
    save_samples(run)
    base = evaluate_run(run, "evaluation of the base model", run.config.eval_sampling)
    if run.processes.rank == 0:
        write_eval(run.folder, base=base)


def _goes_on(run: Run) -> bool:
    return run.iteration < run.config.num_iterations and not (run.alarm.sounding and run.config.stop_on_alarm)


def _leave_due(run: Run) -> None:
    """Leave on disk what is due after an iteration. The run's end evaluates by itself."""
    config = run.config
    if run.iteration % config.eval.sample_every == 0:
        save_samples(run)
    evaluates, saves = is_due(run, config.eval.every) and _goes_on(run), run.iteration % config.checkpoint_every == 0
    if evaluates or saves:
        check_same_weights(run.optimizer.parameters, run.replicas)
    if evaluates:  # which saves a checkpoint, too
        evaluate_on_the_way(run, run.config.eval_sampling)
    elif saves:
        run.save_checkpoint()


def _end(run: Run) -> dict[str, Any]:
    save_samples(run)
    run.save_checkpoint()
    weights = run.save_weights()
    tuned = evaluate_run(run, "evaluation of the tuned model", run.config.eval_sampling)
    if run.config.eval.every:
        keep_best(run, tuned)
    if run.processes.rank > 0:
        return {"tuned": tuned} if tuned else {}
    evaluation = write_eval(run.folder, tuned=tuned)
    run.writer.finish()
    write_whole(run.folder / FINISHED, f"{run.iteration}\n")
    run.events.emit(RunFinished(folder=run.folder, evaluation=evaluation, weights=weights))
    return evaluation


@out_of_memory_while("judging images")
def iterate(run: Run) -> Values:
    """One iteration; returns its line of metrics. Everything random in it is named by the run's seed and the iteration."""
    config, objective, seconds = run.config, run.config.objective, Values()
    plan = Plan(config.seed, config.rollout, config.rollout.known, objective.drawing, config.lora)
    seed = plan.names(run.iteration)

    with ExitStack() as kept:
        with run.events.phase("rollout", seconds):  # rewards judge while the next images are drawn: vgrpo/rewards/judging.py
            coming = kept.enter_context(coming_images(run, plan))
            rollout, judging = finished_rollout(run, plan, coming), coming.judging
        run.check()
        with run.events.phase("reward", seconds):
            scores, weights, images, gains = judged(run, rollout, judging, objective.credit, config.rollout.batch_size)
        run.check()
        if config.rollout.lag > 0:
            with run.events.phase("rollout", seconds):
                begin_ahead(run, plan, judging, draws=_draws_ahead(run))
        with run.events.phase("update", seconds):
            gains = gains.to(rollout.latents.device)
            judgement = advantages_of(config, rollout, gains, weights, run.processes)
            reward, advantage = weighted_mean(scores.usable, weights), judgement.advantage.mean(1)
            run.events.emit(
                ImagesJudged(iteration=run.iteration, rollout=rollout, scores=scores, reward=reward, advantage=advantage)
            )
            batch = make_batch(config, rollout, judgement, run.iteration, *seed, processes=run.processes)
            steps = update(run, batch, rollout.num_groups)
            run.move_old_weights()
            run.ahead.move()
        monitors = monitor_values(run, rollout, judging)

    trained = run.processes.gather(batch.group, batch.group)
    line = iteration_values(images, trained, steps, seconds, run.task.panel.names) | monitors
    line |= rollout_values(run, coming) | {"seconds/judge": judging.seconds, "seconds/judge_hidden": judging.seconds_hidden}
    forwards = run.policy.num_branches(config.training_guidance) * batch.points.times().shape[1]
    forwards *= len(trained) / len(images.group)
    line |= nfe_values(config.needed, config.update.num_epochs, rollout.nfe, forwards)
    line |= memory_values(run.policy.device)
    line |= {"iteration": run.iteration, "lr": run.optimizer.last_lr, "seconds/checkpoint": run.newly_waited()}
    return line


def _draws_ahead(run: Run) -> bool:
    """Whether the next iteration's images may be drawn during this one. Not where sample pictures or an evaluation are due in
    between: rewards are asked by one thread at a time."""
    following, settings = run.iteration + 1, run.config.eval
    is_free = following % settings.sample_every > 0 and (settings.every == 0 or following % settings.every > 0)
    return following < run.config.num_iterations and is_free


@out_of_memory_while("updating the model")
def update(run: Run, batch: Batch[Any], num_groups: int) -> list[StepMetrics]:
    """The optimiser steps of one rollout; returns the per-row metrics of each, and its gradient norm."""
    settings, objective = run.config.update, run.config.objective
    guidance, size, needed = run.config.training_guidance, settings.micro_batch_size, run.config.needed
    parts = minibatches(batch, num_groups, settings.num_minibatches)
    bases = [kept_velocities(part) if settings.keep_old else {} for part in parts]
    # Each weight set goes into the model once, for all minibatches that need it.
    for name in objective.baselines:
        asking = [index for index in range(len(parts)) if name in needed[index]]
        if asking:
            with run.weight_set(name), summed(run.policy):
                for index in asking:
                    bases[index][name] = frozen_velocities(run.policy, parts[index], guidance, size)
    steps: list[StepMetrics] = []
    # Around the backward, too: gradient checkpointing computes the forward again in it.
    with run.policy.attention(), summed(run.policy):
        for part, base in list(zip(parts, bases, strict=True)) * settings.num_epochs:
            run.events.emit(PhaseAdvanced(name="update", done=len(steps), total=settings.num_epochs * len(parts)))
            metrics = gathered(backward(run.policy, objective, part, base, guidance, size), part)
            sum_gradients(run.optimizer.parameters, run.processes)
            steps.append(metrics | {"grad_norm": torch.tensor(run.optimizer.step(metrics["loss"], run.leave_whole))})
    return steps
