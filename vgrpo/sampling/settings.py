"""How pictures are drawn: the same settings for a rollout, an evaluation and `vgrpo sample`."""

from dataclasses import dataclass
from typing import ClassVar

from vgrpo.core.solvers import Solver
from vgrpo.support.checks import require, require_finite, require_within


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
    """Images drawn at once. None is all of a rollout, and the rollout's own number in its evaluations."""

    def __post_init__(self) -> None:
        require_finite(self, self.section)
        at = self.section
        require(self.num_steps >= 1, f"{at}num_steps={self.num_steps}: the solver needs at least 1 step")
        require(self.shift > 0, f"{at}shift={self.shift}: the time shift must be above 0; 1 is none")
        require(self.guidance >= 1, f"{at}guidance={self.guidance}: must be at least 1, which is no guidance")
        size = self.batch_size
        require(size is None or size >= 1, f"{at}batch_size={size}: must be at least 1; None draws all at once")
        require_within(self, at, num_steps=(1, 10_000), shift=(0.001, 1000), guidance=(1, 1000), batch_size=(1, 100_000))
