"""What to switch on when a job does not fit: the same for `vgrpo plan` and `vgrpo train --fit`."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from vgrpo.analysis.plan.job import Job, measure_job
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum

Change = Callable[[Config], Config]
Choice = tuple[str, str, Change]
"""An option as it is typed, its value, empty for one without, and what it does."""


def _memory(name: str, value: str = "") -> Choice:
    option = f"--memory.{name.replace('_', '-')}"
    return option, value, lambda config: replace(config, memory=replace(config.memory, **{name: value or True}))


def _update(size: int) -> Choice:
    def change(config: Config) -> Config:
        return replace(
            config, update=replace(config.update, micro_batch_size=min(size, config.update.micro_batch_size or size))
        )

    return "--update.micro-batch-size", str(size), change


def _rollout(size: int) -> Choice:
    def change(config: Config) -> Config:
        return replace(config, rollout=replace(config.rollout, batch_size=min(size, config.rollout.batch_size or size)))

    return "--rollout.batch-size", str(size), change


def _eight_bit(config: Config) -> Config:
    return replace(config, update=replace(config.update, optimizer="adamw_8bit"))


LADDER: tuple[Choice, ...] = (
    _memory("vae_slicing"),
    *map(_rollout, (32, 16, 8)),
    _memory("offload_encoders"),
    _memory("offload_rewards"),
    _memory("offload_copies"),
    *map(_update, (16, 8, 4)),
    _memory("gradient_checkpointing"),
    *map(_update, (2, 1)),
    *map(_rollout, (4, 2, 1)),
    ("--reward-device", "cpu", lambda config: replace(config, reward_device="cpu")),
    _memory("weights", "bf16"),
    ("--update.optimizer", "adamw_8bit", _eight_bit),
    _memory("weights", "int8"),
    _memory("weights", "nf4"),
)
"""Cheapest first. Reward models on a CPU may take longer than all the rest."""
LEARNED = {
    "--memory.weights bf16": "rounds the frozen weights",
    "--update.optimizer adamw_8bit": "rounds the optimiser's state",
    "--memory.weights int8": "rounds the frozen network's linear layers to 8 bits, and so changes its images",
    "--memory.weights nf4": "rounds the frozen network's linear layers to 4 bits, and so changes its images",
}
"""What changes what is learned, and how; nothing else on the ladder does."""


class Advice(NamedTuple):
    options: list[str]
    """As they are typed."""
    total: float
    """Bytes that the job then takes."""
    texts: float
    """Bytes of all of its encoded texts."""
    config: Config
    """The job's with the options."""

    def note(self) -> str:
        """What the options mean for what is learned."""
        notes = [f"{option} {LEARNED[option]}" for option in self.options if option in LEARNED]
        return "; ".join(notes) if notes else "none of it changes what is learned"


def advise(job: Job, limit: float) -> Advice:
    """The options with which a job fits into `limit` bytes, none of which could be left out or milder; where it does not fit
    even so, those that help at all."""
    chosen: dict[str, Choice] = {}

    def total(options: dict[str, Choice]) -> float:
        try:
            return sum(job.memory(_changed(job.config, options.values())).values())
        except ValueError:  # a batch that the algorithm cannot draw
            return math.inf

    for choice in LADDER:
        if total(chosen) <= limit:
            break
        if total(chosen | {choice[0]: choice}) <= total(chosen):
            chosen[choice[0]] = choice
    enough = max(limit, total(chosen))
    for option in reversed(list(chosen)):  # what costs most first
        rest = {name: choice for name, choice in chosen.items() if name != option}
        milder = [rest, *(rest | {option: choice} for choice in LADDER if choice[0] == option)]
        chosen = next(options for options in milder if total(options) <= enough)
    typed = [f"{option} {value}".strip() for option, value, _ in chosen.values()]
    return Advice(typed, total(chosen), job.stored_texts, _changed(job.config, chosen.values()))


def _changed(config: Config, choices: Iterable[Choice]) -> Config:
    for _, _, change in choices:
        config = change(config)
    return config


def advise_stages(job: Config | Curriculum, limit: float) -> tuple[Config | Curriculum, list[Advice]]:
    """The job as it fits into `limit` bytes, and the advice for each stage. Stages share their memory's settings, so what one
    needs, all have."""
    if isinstance(job, Config):
        advice = advise(measure_job(job), limit)
        return advice.config, [advice]
    found: list[Advice] = []
    memory, device = job.stages[0].config.memory, job.stages[0].config.reward_device
    for stage in job.stages:
        found.append(advise(measure_job(replace(stage.config, memory=memory, reward_device=device)), limit))
        memory, device = found[-1].config.memory, found[-1].config.reward_device
    shared = [replace(advice.config, memory=memory, reward_device=device) for advice in found]
    stages = tuple(replace(stage, config=config) for stage, config in zip(job.stages, shared, strict=True))
    return replace(job, stages=stages), found
