"""Settings of `vgrpo bench`."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from vgrpo.support.checks import require, require_finite, require_within


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a suite races and how closely it is watched. Seconds are those of one CPU core, evaluations not counted."""

    seeds: tuple[int, ...] = tuple(range(10))
    seconds: float = 75.0
    eval_seconds: float = 15.0
    num_prompts: int = 140


BUDGETS = {
    "published": Budget(),
    "equal": Budget(),
    "ablation": Budget(seeds=tuple(range(5)), seconds=60.0, eval_seconds=30.0),
    "smoke": Budget(seeds=(0,), seconds=10.0, eval_seconds=5.0, num_prompts=42),
}


@dataclass(frozen=True, kw_only=True)
class Search:
    """How tuning looks for settings: successive halving (arXiv:1502.07943). Every method makes `num_trials`, and each trains
    for the first of `seconds`. The best third, by reward on training prompts, goes on to the second, and so on."""

    num_trials: int = 12
    seconds: tuple[float, ...] = (12.0, 25.0, 60.0)
    """Trained by the end of each round, of one CPU core."""
    seed: int = 100
    """Of the trials' settings and of their runs; no seed of a race."""

    def __post_init__(self) -> None:
        require(self.num_trials >= 1, f"search.num_trials={self.num_trials}: must be at least 1")
        require_within(self, "search.", num_trials=(1, 1000), seconds=(1e-3, 1e6))
        rising = all(before < after for before, after in zip(self.seconds, self.seconds[1:], strict=False))
        require(len(self.seconds) >= 1 and rising, f"search.seconds={self.seconds}: give the rounds' ends, each after the last")


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """A comparison of algorithms on the sprites world."""

    suite: str = "published"
    """`published` (each method as its paper runs it), `equal` (every method with every setting that is no other's idea),
    `ablation` (V-GRPO's parts) or `smoke` (three methods with small iterations, for a check)."""
    only: tuple[str, ...] = ()
    """Names within the suite; all by default."""
    tune: bool = False
    """Search for each method's settings, on training prompts, instead of racing; writes tuned.json."""
    tuned: Path | None = None
    """A tuned.json whose settings the methods race with."""
    reward: str | None = None
    """Train all on this reward instead of the world's verifier, which goes on judging: how far do the two part?"""
    workers: int = 1
    """Processes that share the work, each on one core."""
    lead: str = "vgrpo-fast-4-steps"
    """The method whose time the others' are divided by."""
    seeds: tuple[int, ...] | None = None
    """0 to 9 by default, 0 to 4 for `ablation`, 0 for `smoke`."""
    seconds: float | None = None
    """Training time of each run, in seconds of one core, without evaluations: 75 by default, 60 for `ablation`, 10 for
    `smoke`."""
    eval_seconds: float | None = None
    """Training time between evaluations: 15, 30 and 5 by default."""
    num_prompts: int | None = None
    """Prompts of an evaluation: 140 by default, 42 for `smoke`. A race takes held-out ones, tuning others."""
    num_images: int = 2
    """Images per prompt."""
    search: Search = Search()
    output_dir: Path = Path("runs/bench")

    def __post_init__(self) -> None:
        require_finite(self)
        for name in ("seconds", "eval_seconds"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}={value}: must be above 0")
        for name in ("num_prompts", "num_images", "workers"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name}={value}: must be at least 1")
        require_within(self, num_prompts=(1, 100_000), num_images=(1, 1000), workers=(1, 256))
        for name in ("seeds", "only"):
            values = getattr(self, name) or ()
            require(len(set(values)) == len(values), f"{name}={values}: name each once")
        require(self.seeds is None or len(self.seeds) >= 1, "seeds is empty: name at least one")
        for name in ("tuned", "seeds", "seconds", "eval_seconds"):
            idle = self.tune and getattr(self, name) is not None
            require(
                not idle, f"{name}: tuning has settings of its own, --search.num-trials, --search.seconds and --search.seed"
            )

    @property
    def budget(self) -> Budget:
        """The suite's, with what was asked for instead."""
        asked = {field.name: getattr(self, field.name) for field in fields(Budget)}
        return replace(BUDGETS[self.suite], **{name: value for name, value in asked.items() if value is not None})
