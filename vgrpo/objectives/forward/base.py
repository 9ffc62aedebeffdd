"""What the algorithms on points of the forward process have in common: how many points, at which times, and who shares them."""

from dataclasses import dataclass

from torch import Tensor

from vgrpo.core.probes import DrawTimes, Share, draw_probes, stratified
from vgrpo.core.types import Probes, Trajectory
from vgrpo.objectives.base import Objective
from vgrpo.support.checks import require, require_finite, require_within


@dataclass(frozen=True, kw_only=True)
class ForwardObjective(Objective[Probes]):
    """Points (t, eps) that the forward process reaches from a final latent. Nothing of the trajectory is needed, so any solver
    may draw the images."""

    num_probes: int = 4
    """Pairs (t, eps) per image."""
    num_timesteps: int = 40
    """Points of the schedule that t is drawn from."""
    shift: float = 1.0
    """Time shift of that schedule."""

    def __post_init__(self) -> None:
        require_finite(self, "objective.")
        require_within(self, "objective.", num_timesteps=(1, 10_000), shift=(0.001, 1000))
        require(
            1 <= self.num_probes <= self.most_probes,
            f"objective.num_probes={self.num_probes}: must lie between 1 and {self.most_probes}, the points of the schedule "
            f"(objective.num_timesteps={self.num_timesteps}) that t is drawn from; lower the first or raise the second",
        )

    @property
    def most_probes(self) -> int:
        """How many times the schedule has to offer."""
        return self.num_timesteps

    @property
    def shared(self) -> tuple[Share, Share]:
        """Whose images share the times, and whose share the noise."""
        return "batch", "none"

    @property
    def opposed(self) -> bool:
        """Whether every second point of an image has the opposite noise of the one before it."""
        return False

    def draw_times(self) -> DrawTimes:
        """How the times [K] of a set of points are drawn."""
        return stratified(self.num_probes, self.num_timesteps, self.shift)

    def points(self, x_0: Tensor, group: Tensor, *seed: int | str, trajectory: Trajectory | None = None) -> Probes:
        times, noise = self.shared
        return draw_probes(
            x_0,
            group,
            *seed,
            draw_times=self.draw_times(),
            num_probes=self.num_probes,
            times=times,
            noise=noise,
            antithetic=self.opposed,
        )
