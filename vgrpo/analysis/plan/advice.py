"""What to switch on when a job does not fit."""

from collections.abc import Callable
from dataclasses import replace

from vgrpo.analysis.plan.job import Job
from vgrpo.training.config import Config

Change = Callable[[Config], Config]
Choice = tuple[str, str, Change]
"""An option as it is typed, its value, empty for one without, and what it does."""


def _memory(name: str) -> Choice:
    option = f"--memory.{name.replace('_', '-')}"
    return option, "", lambda config: replace(config, memory=replace(config.memory, **{name: True}))


def _update(size: int) -> Choice:
    option = "--update.micro-batch-size"
    return option, str(size), lambda config: replace(config, update=replace(config.update, micro_batch_size=size))


def _rollout(size: int) -> Choice:
    option = "--rollout.batch-size"
    return option, str(size), lambda config: replace(config, rollout=replace(config.rollout, batch_size=size))


LADDER = (
    _memory("vae_slicing"),
    *map(_rollout, (32, 16, 8)),
    _memory("offload_encoders"),
    *map(_update, (16, 8, 4)),
    _memory("gradient_checkpointing"),
    *map(_update, (2, 1)),
    *map(_rollout, (4, 2, 1)),
    ("--reward-device", "cpu", lambda config: replace(config, reward_device="cpu")),
)
"""Cheapest first; none changes what is learned. Reward models on a CPU may take longer than all the rest."""


def advise(job: Job, limit: float) -> tuple[list[str], float]:
    """The options with which a job fits into `limit` bytes, none of which could be left out, and the memory it then takes; the
    options that help at all, where it does not fit even so."""
    chosen: dict[str, tuple[str, Change]] = {}

    def total(options: dict[str, tuple[str, Change]]) -> float:
        config = job.config
        for _, change in options.values():
            config = change(config)
        return sum(job.memory(config).values())

    for option, value, change in LADDER:
        if total(chosen) <= limit:
            break
        try:
            smaller = total(chosen | {option: (value, change)}) <= total(chosen)
        except ValueError:  # a batch that the algorithm cannot draw
            continue
        if smaller:
            chosen[option] = value, change
    enough = max(limit, total(chosen))
    for option in list(chosen):
        rest = {name: choice for name, choice in chosen.items() if name != option}
        if total(rest) <= enough:
            chosen = rest
    return [f"{option} {value}".strip() for option, (value, _) in chosen.items()], total(chosen)
