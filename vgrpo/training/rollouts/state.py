"""What a run holds between iterations about its images: who draws them, and what was begun ahead."""

from dataclasses import dataclass
from threading import TIMEOUT_MAX
from types import TracebackType
from typing import Any, Self

from vgrpo.core.types import Rollout
from vgrpo.models.weight_sets import WeightCopy
from vgrpo.rewards.judging import Judging
from vgrpo.rewards.lanes import PATIENCE, patience_after
from vgrpo.support.dealing import Deal
from vgrpo.training.rollouts.workers import Drawn, Named, RolloutWorkers

AS_LONG_AS_IT_TAKES = TIMEOUT_MAX / 2
"""Seconds of patience with a reward that is asked again right afterwards."""


@dataclass(kw_only=True)
class Coming:
    """The images of an iteration, which may not be there yet, and the rewards at work on those that are."""

    iteration: int
    judging: Judging
    deal: "Deal[Named, Drawn] | None" = None
    """With the workers; None where the rollout was drawn in this process, and is there."""
    rollout: Rollout | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(patience_after(kind))

    def close(self, patience: float = PATIENCE) -> None:
        """Ask nobody for anything more, and wait so many seconds for a reward that is at work in this process."""
        if self.deal is not None:
            self.deal.end()
        self.judging.close(patience)


@dataclass(kw_only=True)
class Ahead:
    """With `rollout.lag` the images of the next iteration are begun before this one's update."""

    workers: RolloutWorkers | None = None
    drew: WeightCopy | None = None
    """The weights that drew the images that come next to be trained on: "old" to the update. None without a lag, where that is
    the behaviour policy itself."""
    draws: WeightCopy | None = None
    """Those that draw for the iteration after it, while there are two."""
    coming: Coming | None = None

    def move(self) -> None:
        """At the end of an iteration."""
        if self.draws is not None:
            self.drew, self.draws = self.draws, None

    def close(self, patience: float = PATIENCE) -> None:
        """Throw away what was begun: `drew` would draw it again. Waits as `Coming.close` does."""
        if self.coming is not None:
            self.coming.close(patience)
            self.coming = None

    def state_dict(self) -> dict[str, Any] | None:
        """With these weights the next rollout can be drawn again, bit for bit."""
        return None if self.drew is None else self.drew.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.drew is not None:
            self.drew.load_state_dict(state)
