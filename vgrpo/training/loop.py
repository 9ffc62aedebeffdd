"""The loop, to be read first: draw groups of images, judge them, update the model, again.

One iteration is rollout -> rewards -> advantages -> points -> optimiser steps. Nothing here knows which algorithm, model or
reward is at work.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.processes import ALONE, Processes
from vgrpo.core.types import Batch, Rollout
from vgrpo.evaluation.core import evaluate, read_eval, write_eval
from vgrpo.models.defaults import defaults_of
from vgrpo.objectives.advantage import weighted_mean
from vgrpo.pages.report import write_report
from vgrpo.rewards.base import RewardError, Scores, score_images
from vgrpo.sampling.draw import decode, draw_groups
from vgrpo.support.files import write_whole
from vgrpo.support.interrupts import Interrupts
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.batch import advantages_of, make_batch
from vgrpo.training.config import Config
from vgrpo.training.events import Events, ImagesJudged, Listener, PhaseAdvanced, RunFinished, RunStarted, Values
from vgrpo.training.metrics import iteration_values, nfe_values, rollout_scores
from vgrpo.training.resume import FINISHED
from vgrpo.training.run import Run, save_samples
from vgrpo.training.start import Given, start_run
from vgrpo.training.steering import Steering
from vgrpo.training.stopping import saved_on_stop
from vgrpo.training.together import check_together
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
    with closing(run), Interrupts() as interrupts, saved_on_stop(run):
        run.check = partial(check_together, interrupts, processes)
        events.emit(RunStarted(folder=run.folder, config=run.config, iteration=run.iteration, past=run.past))
        if run.finished and run.iteration >= config.num_iterations:
            events.notice("this run is finished; a larger --num-iterations goes on with it")
            evaluation = read_eval(run.folder)
        else:
            steering = Steering(run)
            _begin(run)
            while run.iteration < config.num_iterations and not (run.alarm.sounding and config.stop_on_alarm):
                steering.obey()
                run.check()
                run.finish_iteration(iterate(run))
            evaluation = _end(run)
    run.adopt_average()
    return Result(output_dir=run.folder, pipeline=run.policy.pipeline, evaluation=evaluation)


def _begin(run: Run) -> None:
    """Before the first iteration: a checkpoint, so that the run can go on whatever comes, pictures and scores of the base."""
    if run.processes.rank == 0:
        (run.folder / FINISHED).unlink(missing_ok=True)
    if run.iteration > 0:
        return
    run.save_checkpoint()
    save_samples(run)
    base = _evaluate(run, "base")
    if run.processes.rank == 0:
        write_eval(run.folder, base=base)


def _end(run: Run) -> dict[str, Any]:
    save_samples(run)
    run.save_checkpoint()
    weights = run.save_weights()
    tuned = _evaluate(run, "tuned")
    if run.processes.rank > 0:
        return {"tuned": tuned} if tuned else {}
    evaluation = write_eval(run.folder, tuned=tuned)
    report = write_report(run.folder)
    run.writer.finish()
    write_whole(run.folder / FINISHED, f"{run.iteration}\n")
    run.events.emit(RunFinished(evaluation=evaluation, weights=weights, report=report))
    return evaluation


@out_of_memory_while("judging images")
def iterate(run: Run) -> Values:
    """One iteration; returns its line of metrics. Everything random in it is named by the run's seed and the iteration."""
    config, objective, seconds = run.config, run.config.objective, Values()
    seed = (config.seed, "iteration", run.iteration)

    with run.events.phase("rollout", seconds), run.weight_set("old"):
        rollout = draw_rollout(run, *seed)
    run.check()
    with run.events.phase("reward", seconds):
        scores, weights = judge(run, rollout, rollout.images), run.task.panel.weights_of(rollout.prompts)
        images = rollout_scores(rollout, scores, weights, list(run.task.panel.weights), run.processes)
        require_judged(images.scores, images.weights, run.iteration)
        gains = objective.credit.gains(scores.usable, judge_latents(run, rollout), rollout.group.cpu(), run.processes)
    run.check()
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

    trained = run.processes.gather(batch.group, batch.group)
    line = iteration_values(images, trained, steps, seconds, run.task.panel.names) | _monitored(run, rollout)
    forwards = run.policy.num_branches(config.training_guidance) * batch.points.times().shape[1]
    line |= nfe_values(objective, config.update, rollout.nfe, forwards * len(trained) / len(images.group))
    line |= {"iteration": run.iteration, "lr": run.optimizer.last_lr, "seconds/checkpoint": run.newly_waited()}
    return line


@out_of_memory_while("drawing images to train on")
def draw_rollout(run: Run, *seed: int | str) -> Rollout:
    """This process's groups of the iteration, under the weights that are now in the model."""
    config, drawing = run.config, run.config.objective.drawing
    groups = run.processes.share(config.rollout.num_prompts)
    return draw_groups(
        run.policy,
        run.task.prompts(run.iteration, config.rollout.num_prompts),
        *seed,
        group_size=config.rollout.group_size,
        sampling=config.rollout.resolved(defaults_of(run.policy)),
        groups=groups,
        step_sampler=drawing.step_sampler(run.iteration, *seed),
        initial_noise=drawing.initial_noise,
        between=run.batches("rollout", len(groups) * config.rollout.group_size, in_step=False),
    )


def judge(run: Run, rollout: Rollout, images: Tensor) -> Scores:
    """Every reward of images [B, 3, H, W] for the rollout's prompts, [B, R]."""
    return run.task.panel.judge(images, rollout.prompts, run.events.notice, run.processes)


def require_judged(scores: Scores, weights: Tensor, iteration: int) -> None:
    """Raises RewardError if no image has a score to train on."""
    if weighted_mean(scores.usable, weights).isnan().all():
        failed = int(scores.failed.any(1).sum())
        raise RewardError(
            f"nothing was judged: of the {len(weights)} images of iteration {iteration + 1} a reward failed on {failed}, and "
            "from the others every reward with a weight abstained (NaN); give prompts that a reward judges, or another reward"
        )


def judge_latents(run: Run, rollout: Rollout) -> Tensor | None:
    """Rewards [B, J, R] of the latents that the algorithm wants judged beside the final images, if any."""
    latents = run.config.objective.credit.judged(rollout.trajectory)
    if latents is None:
        return None
    return torch.stack(
        [judge(run, rollout, decode(run.policy, x_0, run.config.rollout.batch_size)).usable for x_0 in latents.unbind(1)], 1
    )


@out_of_memory_while("updating the model")
def update(run: Run, batch: Batch[Any], num_groups: int) -> list[StepMetrics]:
    """The optimiser steps of one rollout; returns the per-row metrics of each, and its gradient norm."""
    settings, objective = run.config.update, run.config.objective
    guidance, size = run.config.training_guidance, settings.micro_batch_size
    parts = minibatches(batch, num_groups, settings.num_minibatches)
    bases = [kept_velocities(part) if settings.keep_old else {} for part in parts]
    # Each weight set goes into the model once, for all minibatches that need it.
    for name in objective.baselines:
        asking = [
            index for index in range(len(parts)) if name in objective.needed(index, settings.num_epochs, settings.keep_old)
        ]
        if asking:
            with run.weight_set(name):
                for index in asking:
                    bases[index][name] = frozen_velocities(run.policy, parts[index], guidance, size)
    steps: list[StepMetrics] = []
    for _ in range(settings.num_epochs):
        for part, base in zip(parts, bases, strict=True):
            run.events.emit(PhaseAdvanced(name="update", done=len(steps), total=settings.num_epochs * len(parts)))
            with run.policy.attention():  # gradient checkpointing computes the forward again in the backward
                metrics = gathered(backward(run.policy, objective, part, base, guidance, size), part)
            sum_gradients(run.optimizer.parameters, run.processes)
            steps.append(metrics | {"grad_norm": torch.tensor(run.optimizer.step(metrics["loss"], run.leave_whole))})
    return steps


def _monitored(run: Run, rollout: Rollout) -> Values:
    """Means of the rewards that are only watched. One that fails on every image is left out: no reason to end a run."""
    line, group = {}, rollout.group.cpu()
    for name, monitor in run.task.monitors.items():
        fails, values = False, torch.full((len(group),), torch.nan)
        try:
            values = score_images(monitor, rollout.images, rollout.prompts, notice=run.events.notice)
        except RewardError:
            fails = True
        values = run.processes.gather(values, group)
        if run.processes.most(not fails):
            line[f"monitor/{name}"] = values.nanmean().item()
    return line


def _evaluate(run: Run, name: str) -> dict[str, Any]:
    task = run.task
    if not task.eval_prompts:
        return {}
    sampling, phase = run.config.eval_sampling, f"evaluation of the {name} model"
    num_images = len(task.eval_prompts) * sampling.num_images
    detail = f"{num_images} images of {len(task.eval_prompts)} held-out prompts"
    with run.events.phase(phase, detail=detail), run.average.active():
        between = run.batches(phase, num_images)
        return evaluate(run.policy, task.eval_prompts, task.panel, sampling, task.world, between, run.processes)
