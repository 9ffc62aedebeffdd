"""What a run is made of."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vgrpo.core.images import stills, to_pil
from vgrpo.core.processes import ALONE, Processes
from vgrpo.models.in_step import drawing
from vgrpo.models.lora import save_lora
from vgrpo.models.policy import Policy
from vgrpo.models.saving import save_pipeline
from vgrpo.models.shard_files import fill, moments_like
from vgrpo.models.weight_sets import AverageWeights, WeightCopy, trainable, without_adapter
from vgrpo.objectives.base import WeightSet
from vgrpo.pages.run_files import NUM_IMAGES
from vgrpo.rewards.lanes import PATIENCE
from vgrpo.sampling.draw import Between, all_noise, draw_images
from vgrpo.support.json_files import write_json
from vgrpo.support.lock import RunLock
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.checkpoints.checkpoint import CheckpointWriter
from vgrpo.training.folder import settings_of
from vgrpo.training.optimizer import Optimizer
from vgrpo.training.record.alarm import Alarm
from vgrpo.training.record.best_scores import BestScores
from vgrpo.training.record.events import (
    AlarmRaised,
    CheckpointSaved,
    Events,
    IterationDone,
    PhaseAdvanced,
    SamplesDrawn,
    Values,
)
from vgrpo.training.record.health import Health
from vgrpo.training.record.sample_scores import sample_scores
from vgrpo.training.rollouts.state import Ahead
from vgrpo.training.settings.config import Config
from vgrpo.training.tasks.task import Task


@dataclass(kw_only=True)
class Run:
    """The moving parts of a training run."""

    config: Config
    folder: Path
    lock: RunLock
    writer: CheckpointWriter
    policy: Policy
    task: Task
    optimizer: Optimizer
    average: AverageWeights
    copies: dict[WeightSet, WeightCopy]
    events: Events
    alarm: Alarm
    health: Health
    past: list[Values]
    """The lines of metrics of the iterations before a resumed run's first."""
    processes: Processes = ALONE
    files: ExitStack = field(default_factory=ExitStack)
    """What is open as long as the run is."""
    ahead: Ahead = field(default_factory=Ahead)
    best: BestScores = field(default_factory=BestScores)
    iteration: int = 0
    """Counted from 0; the one that comes next."""
    check: Callable[[], None] = lambda: None
    """Called where the run may be stopped without loss: between phases and between batches of images."""
    finished: bool = False
    """Whether it had come to its end before it was resumed."""
    whole: bool = True
    """Whether the weights are those after a whole iteration, not after some of the optimiser steps of one."""
    steered_lr: float | None = None
    """The learning rate that somebody chose while the run went on; None is that of the settings."""
    waited: float = 0.0
    """`writer.seconds_waited` when it was last told."""

    def batches(self, phase: str, total: int, *, in_step: bool = True) -> Between:
        """For drawing `total` images: before every batch of them the run may be stopped, and tells how far the phase is.

        Several processes that are not `in_step` have different numbers of batches. They are stopped between phases alone, where
        all come by."""
        done = 0

        def between(num_images: int) -> None:
            nonlocal done
            if in_step or self.processes.size == 1:
                self.check()
            self.events.emit(PhaseAdvanced(name=phase, done=done, total=total))
            done += num_images

        return between

    def weight_set(self, name: WeightSet) -> AbstractContextManager[None]:
        """Other weights in the model for a while. Without a copy "old" are the current ones, and "ref" none beside the base."""
        if name == "old" and self.ahead.drew is not None:
            return self.ahead.drew.active()
        if name in self.copies:
            return self.copies[name].active()
        return without_adapter(self.policy.module) if name == "ref" else nullcontext()

    def set_lr(self, lr: float) -> None:
        """Another learning rate from the next step on, before warm-up and decay."""
        self.steered_lr = self.optimizer.lr = lr

    def leave_whole(self) -> None:
        """From an iteration's first step that moves the weights to its end, there is nothing to save."""
        self.whole = False

    def move_old_weights(self) -> None:
        decay = self.config.objective.old_decay(self.iteration)
        if "old" in self.copies and decay is not None:
            self.copies["old"].blend(decay)

    def finish_iteration(self, values: Values) -> None:
        """Tell everyone about it, and go on to the next."""
        for text in self.health.add(values):
            self.events.notice(f"iteration {self.iteration + 1}: {text}")
        for monitor in self.alarm.add(values):
            self.events.emit(AlarmRaised(monitor=monitor, iteration=self.iteration))
        self.events.emit(IterationDone(iteration=self.iteration, values=values))
        self.iteration += 1
        self.whole = True

    def save_checkpoint(self) -> Path:
        """Begin to write one, beside training; `writer.finish` waits for it. What is trained so far goes to lora/, if it is an
        adapter: a whole network is written at the end alone. Returns where it goes."""
        path = self.writer.save(self.state_dict(), self.iteration)
        if self.config.finetune == "lora" and self.iteration > 0:
            self.save_weights()
        self.events.emit(CheckpointSaved(path=path, iteration=self.iteration))
        return path

    @property
    def replicas(self) -> Processes:
        """Those that hold the same trained weights as this process."""
        spread = self.policy.spread
        return self.processes if spread is None or self.config.finetune == "lora" else spread.replicas

    def newly_waited(self) -> float:
        """Seconds that checkpoints kept training waiting since this was last asked."""
        before, self.waited = self.waited, self.writer.seconds_waited
        return self.waited - before

    def close(self, patience: float = PATIENCE) -> None:
        """Let go of the folder; a reward at work is waited for so many seconds. Raises OSError if the last checkpoint could not
        be written."""
        with ExitStack() as ends:  # each is done whatever comes of those before it
            for end in (
                self.lock.release,
                self.files.close,
                self.writer.finish,
                self.task.close,
                partial(self.ahead.close, patience),
            ):
                ends.callback(end)

    def state_dict(self) -> dict[str, Any]:
        """All that the next iteration depends on. What is random about it is named by the iteration and needs nothing; torch's
        own generators are kept for code that draws from them."""
        return {
            "settings": settings_of(self.config),
            "iteration": self.iteration,
            "weights": {name: value.detach() for name, value in trainable(self.policy.module).items()},
            "average": self.average.state_dict(),
            "average_steps": self.average.num_steps,
            "optimizer": self.optimizer.inner.state_dict(),
            "optimizer_steps": self.optimizer.num_steps,
            "bad_steps": self.optimizer.num_bad_steps,
            "steered_lr": self.steered_lr,
            "old": self.copies["old"].state_dict() if "old" in self.copies else None,
            "drew": self.ahead.state_dict(),
            "alarm": self.alarm.state_dict(),
            "health": self.health.state_dict(),
            "best": self.best.state_dict(),
            "generators": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if self._has_all_gpus else [])],
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]
        for name, parameter in trainable(self.policy.module).items():
            fill(parameter, state["weights"][name])
        self.average.load_state_dict(state["average"])
        if "old" in self.copies:
            self.copies["old"].load_state_dict(state["old"])
        self.ahead.load_state_dict(state.get("drew") or state["old"] or state["weights"])
        self.average.num_steps = state["average_steps"]
        self.optimizer.inner.load_state_dict(moments_like(self.optimizer.parameters, state["optimizer"]))
        self.optimizer.num_steps, self.optimizer.num_bad_steps = state["optimizer_steps"], state["bad_steps"]
        if state.get("steered_lr") is not None and state["settings"]["update"]["lr"] == self.config.update.lr:
            self.set_lr(state["steered_lr"])  # settings that were changed for the resume come after it
        self.alarm.load_state_dict(state["alarm"])
        self.health.load_state_dict(state["health"])
        self.best.load_state_dict(state.get("best") or self.best.state_dict())
        first, *others = state["generators"]
        torch.set_rng_state(first)
        if self._has_all_gpus and len(others) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(others)

    @property
    def _has_all_gpus(self) -> bool:
        """One of several processes has its own alone, and to ask another takes memory there."""
        return torch.cuda.is_available() and self.processes.size == 1

    @property
    def weights_name(self) -> str:
        return "pipeline" if self.config.finetune == "full" else "lora"

    def save_weights(self, folder: Path | None = None) -> Path:
        """The averaged weights for `load_lora_weights`, by default as `lora/`, or after full fine-tuning a whole pipeline, by
        default as `pipeline/`."""
        full = self.config.finetune == "full"
        folder = folder or self.folder / self.weights_name
        if self.processes.rank > 0 and not (full and self.policy.spread):
            return folder
        with self.average.active():
            if full:
                save_pipeline(self.policy, folder, writes=self.processes.rank == 0)
            else:
                save_lora(self.policy, folder)
        return folder


@out_of_memory_while("drawing sample pictures")
def save_samples(run: Run) -> Path:
    """Pictures of fixed prompts and seeds under the averaged weights: samples/000020/03.png is prompt 3, four images, and
    scores.json what they score. `vgrpo sample --seed 0` with prompts.txt, or prompts.jsonl of edits, draws the same ones.
    Returns the folder."""
    settings, folder = run.config.eval_sampling, run.folder / "samples" / f"{run.iteration:06d}"
    if run.processes.rank > 0:
        with run.average.active(), drawing(run.policy):
            return folder
    prompts = run.task.eval_prompts or run.task.prompts(0, settings.num_sample_prompts)
    prompts = prompts[:: max(1, len(prompts) // settings.num_sample_prompts)][: settings.num_sample_prompts]
    folder.mkdir(parents=True, exist_ok=True)
    noise = all_noise(run.policy, [(0, "sample", p, i) for p in range(len(prompts)) for i in range(NUM_IMAGES)])
    repeated = [prompt for prompt in prompts for _ in range(NUM_IMAGES)]
    with run.events.phase("samples"), run.average.active(), drawing(run.policy):
        _, images = draw_images(run.policy, repeated, noise, settings.known, run.batches("samples", len(noise), in_step=False))
    for index, row in enumerate(stills(images).unflatten(0, (len(prompts), NUM_IMAGES))):
        strip: Image.Image = to_pil(torch.cat(list(row), 2))
        strip.save(folder / f"{index:02d}.png")
    task, notice = run.task, run.events.notice
    scores = sample_scores(task.panel, task.monitors, task.world, images, repeated, NUM_IMAGES, notice)
    write_json(folder / "scores.json", scores)
    (folder / "prompts.txt").write_text("".join(prompt.text.replace("\n", " ") + "\n" for prompt in prompts))
    if any(prompt.image for prompt in prompts):
        rows = [{"prompt": prompt.text} | ({"image": str(prompt.image)} if prompt.image else {}) for prompt in prompts]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.events.emit(SamplesDrawn(folder=folder, iteration=run.iteration))
    return folder
