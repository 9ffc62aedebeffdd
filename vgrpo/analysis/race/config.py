"""Settings of `vgrpo bench`."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from vgrpo.support.checks import require, require_finite, require_within


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a suite races and how closely it is watched."""

    seeds: tuple[int, ...] = (0, 1, 2)
    seconds: float = 150.0
    eval_seconds: float = 15.0
    num_prompts: int = 210


BUDGETS = {
    "methods": Budget(),
    "ablation": Budget(seconds=60.0, eval_seconds=30.0, num_prompts=140),
    "smoke": Budget(seeds=(0,), seconds=10.0, eval_seconds=5.0, num_prompts=42),
}


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """A comparison of algorithms on the sprites world."""

    suite: str = "methods"
    """`methods` (the algorithms), `ablation` (V-GRPO's parts) or `smoke` (three methods with small iterations, for a check)."""
    only: tuple[str, ...] = ()
    """Names within the suite; all by default."""
    seeds: tuple[int, ...] | None = None
    """Three by default, one for `smoke`."""
    seconds: float | None = None
    """Training time of each run, without evaluations: 150 by default, 60 for `ablation`, 10 for `smoke`."""
    eval_seconds: float | None = None
    """Training time between evaluations: 15, 30 and 5 by default."""
    num_prompts: int | None = None
    """Held-out prompts of an evaluation: 210, 140 and 42 by default."""
    num_images: int = 2
    """Images per prompt."""
    lr: tuple[float, ...] = ()
    """Try these learning rates instead of the suite's; every method becomes one entry per rate."""
    knobs: bool = False
    """Try alternatives to each method's own settings as well, as tuning does; every method becomes several entries."""
    held_out: bool = True
    """Evaluate on held-out prompts; False takes training prompts, as tuning must."""
    output_dir: Path = Path("runs/bench")

    def __post_init__(self) -> None:
        require_finite(self)
        for name in ("seconds", "eval_seconds"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}={value}: must be above 0")
        for name in ("num_prompts", "num_images"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name}={value}: must be at least 1")
        require(all(rate > 0 for rate in self.lr), f"lr={self.lr}: each learning rate must be above 0")
        require_within(self, num_prompts=(1, 100_000), num_images=(1, 1000), lr=(0, 1000))
        for name in ("seeds", "only", "lr"):
            values = getattr(self, name) or ()
            require(len(set(values)) == len(values), f"{name}={values}: name each once")
        require(self.seeds is None or len(self.seeds) >= 1, "seeds is empty: name at least one")
        require(not (self.knobs and self.lr), "lr and knobs both ask for more entries; give one of them")

    @property
    def budget(self) -> Budget:
        """The suite's, with what was asked for instead."""
        asked = {field.name: getattr(self, field.name) for field in fields(Budget)}
        return replace(BUDGETS[self.suite], **{name: value for name, value in asked.items() if value is not None})
