"""The loop, to be read first: draw groups of images, judge them, update the model, again.

One iteration is `rollout -> rewards -> advantages -> probes -> optimiser steps`. Nothing here knows which algorithm, model
or reward is at work.
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Batch, Prompt, Rollout
from vgrpo.evaluation.core import evaluate, write_eval
from vgrpo.models.attention import suitable_attention
from vgrpo.objectives.advantage import extremes
from vgrpo.objectives.base import WeightSet
from vgrpo.pages.report import write_report
from vgrpo.rewards.registry import Reward, RewardError, score_images
from vgrpo.sampling.draw import draw_groups
from vgrpo.support.memory_errors import GpuMemoryError, out_of_memory_while
from vgrpo.training import checkpoint
from vgrpo.training.config import Config
from vgrpo.training.log import RunLog, summarise
from vgrpo.training.run import Run, save_samples
from vgrpo.training.start import start_run
from vgrpo.training.update import backward, frozen_velocities, minibatches


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `train` leaves: the run's folder, the pipeline with the tuned weights in it, and eval.json's content."""

    output_dir: Path
    pipeline: Any
    evaluation: dict[str, Any]


def train(
    config: Config,
    *,
    pipeline: Any = None,
    reward: Reward | None = None,
    prompts: list[str] | list[Prompt] | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Result:
    """Run a training job to its end, or go on with one.

    A pipeline, a reward function and prompts in memory take the place of those that `config` names. Raises ValueError or an
    OSError at start-up for settings that cannot work; RewardError when a whole batch of rewards fails, after saving a
    checkpoint; GpuMemoryError and KeyboardInterrupt likewise.
    """
    run = start_run(config, pipeline=pipeline, reward=reward, prompts=prompts, resume=resume)
    with RunLog(run.folder, config, start=run.iteration, quiet=quiet) as log:
        if run.iteration == 0:
            save_samples(run)
            write_eval(run.folder, base=_evaluate(run, log, "base"))
        try:
            while run.iteration < config.num_iterations:
                log.write(iterate(run))
                run.iteration += 1
                if run.iteration % config.eval.sample_every == 0:
                    save_samples(run)
                if run.iteration % config.checkpoint_every == 0:
                    checkpoint.save(run.state_dict(), run.folder / "checkpoints", run.iteration)
                if log.alarms and config.stop_on_alarm:
                    break
        except (KeyboardInterrupt, RewardError, GpuMemoryError):
            path = checkpoint.save(run.state_dict(), run.folder / "checkpoints", run.iteration)
            log.stopped(path)
            raise
        save_samples(run)
        checkpoint.save(run.state_dict(), run.folder / "checkpoints", run.iteration)
        with run.average.active():
            run.save_weights()
        evaluation = write_eval(run.folder, tuned=_evaluate(run, log, "tuned"))
        log.finished(evaluation, write_report(run.folder))
    run.adopt_average()
    return Result(output_dir=run.folder, pipeline=run.policy.pipeline, evaluation=evaluation)


@out_of_memory_while("judging images")
def iterate(run: Run) -> dict[str, float]:
    """One iteration; returns its line of metrics. Everything random in it is named by the run's seed and the iteration."""
    config, seed = run.config, (run.config.seed, "iteration", run.iteration)
    clock = [time.perf_counter()]

    with out_of_memory_while("drawing images to train on"), run.weights("old"):
        rollout = draw_groups(
            run.policy,
            run.prompts(run.iteration, config.rollout.num_prompts),
            *seed,
            group_size=config.rollout.group_size,
            sampling=config.rollout,
            path_sampler=config.objective.path_sampler(*seed),
            initial_noise=config.objective.initial_noise,
        )
    clock.append(time.perf_counter())

    def judge(images: Tensor) -> Tensor:
        return torch.stack([score_images(reward, images, rollout.prompts) for reward in run.rewards], 1)

    rewards = judge(rollout.images)
    gains = config.objective.gains(rewards, rollout.path, lambda x_0: judge(run.policy.decode(x_0)))
    clock.append(time.perf_counter())

    batch = make_batch(run, rollout, gains.to(rollout.latents.device), *seed)
    steps = update(run, batch, rollout.num_groups)
    run.move_old_weights()
    clock.append(time.perf_counter())

    line = summarise(rollout, rewards, batch, steps, clock, run.reward_names)
    return line | _monitored(run, rollout) | {"iteration": run.iteration, **_nfe(run, rollout, batch)}


def make_batch(run: Run, rollout: Rollout, gains: Tensor, *seed: int | str) -> Batch:
    """Advantages and probes for a rollout and what its actions earned [B, S, R]."""
    config = run.config
    weights = gains.new_tensor(config.reward_weights or [1.0] * gains.shape[2])
    valid = ~gains.isnan().flatten(1).any(1)
    gains = torch.where(valid[:, None, None], gains, torch.nan)
    actions = [config.advantage(action, weights, rollout.group, rollout.num_groups) for action in gains.unbind(1)]
    advantage = torch.where(valid[:, None], torch.stack(actions, 1), 0.0)
    batch = Batch(
        probes=config.objective.probes(rollout.latents, rollout.group, *seed, path=rollout.path),
        cond=rollout.cond,
        advantage=advantage.squeeze(1),
        group=rollout.group,
        valid=valid,
    )
    batch = config.objective.credit(batch, *seed)
    if config.update.keep_share < 1:
        rows, centred = extremes(batch.advantage, batch.group, config.update.keep_share)
        batch = dataclasses.replace(batch[rows], advantage=centred)
    return batch


@out_of_memory_while("updating the model")
def update(run: Run, batch: Batch, num_groups: int) -> list[dict[str, Tensor]]:
    """The optimiser steps of one rollout; returns the per-image metrics of each, and its gradient norm."""
    config, size, guidance = run.config.update, run.config.update.micro_batch_size, run.config.training_guidance
    parts = minibatches(batch, num_groups, config.num_minibatches)
    needed = run.config.objective.frozen(config.num_minibatches, config.num_epochs)
    bases: list[dict[WeightSet, Tensor]] = [{} for _ in parts]
    for name, share in needed.items():
        first = 0 if share == 1 else 1
        with run.weights(name):
            for part, base in zip(parts[first:], bases[first:], strict=True):
                base[name] = frozen_velocities(run.policy, part, guidance, size)
    steps = []
    for _ in range(config.num_epochs):
        for part, base in zip(parts, bases, strict=True):
            with suitable_attention(run.policy.device):  # gradient checkpointing computes the forward again in the backward
                metrics = backward(run.policy, run.config.objective, part, base, guidance, size)
            steps.append(metrics | {"grad_norm": torch.tensor(run.optimizer.step())})
    return steps


def _monitored(run: Run, rollout: Rollout) -> dict[str, float]:
    """Means of the rewards that are only watched. One that fails on every image is left out: no reason to end a run."""
    line = {}
    for name, monitor in run.monitors.items():
        try:
            line[f"monitor/{name}"] = score_images(monitor, rollout.images, rollout.prompts).nanmean().item()
        except RewardError:
            continue
    return line


def _nfe(run: Run, rollout: Rollout, batch: Batch) -> dict[str, float]:
    """Network evaluations per image of an iteration."""
    config = run.config
    branches = run.policy.num_branches(config.training_guidance)
    forwards = branches * batch.probes.times().shape[1] * len(batch) / len(rollout.prompts)
    return {
        "nfe/rollout": rollout.nfe,
        "nfe/old": forwards * sum(config.objective.frozen(config.update.num_minibatches, config.update.num_epochs).values()),
        "nfe/train": forwards * config.update.num_epochs,
    }


def _evaluate(run: Run, log: RunLog, name: str) -> dict[str, Any]:
    if not run.eval_prompts:
        return {}
    log.say(f"evaluating the {name} model on {len(run.eval_prompts)} held-out prompts")
    with run.average.active():
        size = run.config.eval_batch_size
        return evaluate(run.policy, run.eval_prompts, run.rewards, run.config.eval, run.reward_weights, size)
