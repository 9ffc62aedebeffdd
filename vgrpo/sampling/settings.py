"""How pictures are drawn: the same settings for a rollout, an evaluation and `vgrpo sample`."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

from vgrpo.core.solvers import Solver
from vgrpo.models.defaults import Defaults
from vgrpo.support.checks import require, require_finite, require_within

NUMBERS = ("num_steps", "shift", "guidance", "batch_size")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A solver and what it needs. A part that draws pictures extends it with settings of its own."""

    section: ClassVar[str] = ""
    """How a user's settings call this part, for messages: "rollout." or "eval."."""

    solver: Solver = "dpm_solver_2m"
    num_steps: int = 16
    """Solver steps."""
    shift: float = 1.0
    """Time shift of the solver's schedule, 3 for Stable Diffusion 3; above 1 spends more steps at high noise."""
    guidance: float = 1.0
    """Classifier-free guidance; 1 is none."""
    batch_size: int | None = None
    """Images drawn at once; None is all."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class OwnSampling:
    """The same before a model is known: None is what its own pipeline does."""

    section: ClassVar[str] = ""

    solver: Solver = "dpm_solver_2m"
    num_steps: int | None = None
    """Solver steps; None is the pipeline's own number, 16 for sprites."""
    shift: float | None = None
    """Time shift of the solver's schedule; None is the scheduler's own, for the size that is drawn."""
    guidance: float | None = None
    """Classifier-free guidance; 1 is none, None is the pipeline's own."""
    batch_size: int | None = None
    """Images drawn at once. None is all, and in a run's evaluations the rollout's own number."""

    def __post_init__(self) -> None:
        _check(self)

    def filled(self, own: Defaults) -> Self:
        """The same settings, with what is None as the model has it."""
        missing = {name: value for name, value in own._asdict().items() if getattr(self, name) is None}
        return replace(self, **missing)

    @property
    def known(self) -> Sampling:
        """Once nothing is left to the model."""
        return Sampling(**{each.name: getattr(self, each.name) for each in fields(Sampling)})

    def resolved(self, own: Defaults) -> Sampling:
        """With what is None as the model has it."""
        return self.filled(own).known


def _check(settings: Sampling | OwnSampling) -> None:
    at, steps, shift, guidance, size = settings.section, *(getattr(settings, name) for name in NUMBERS)
    require_finite(settings, at)
    require(steps is None or steps >= 1, f"{at}num_steps={steps}: the solver needs at least 1 step")
    require(shift is None or shift > 0, f"{at}shift={shift}: the time shift must be above 0; 1 is none")
    require(guidance is None or guidance >= 1, f"{at}guidance={guidance}: must be at least 1, which is no guidance")
    require(size is None or size >= 1, f"{at}batch_size={size}: must be at least 1; None draws all at once")
    require_within(settings, at, num_steps=(1, 10_000), shift=(0.001, 1000), guidance=(1, 1000), batch_size=(1, 100_000))
