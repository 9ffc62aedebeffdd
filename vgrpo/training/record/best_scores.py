"""What a run knows of its best evaluation."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(kw_only=True)
class BestScores:
    """Of the evaluations on the way and the last one."""

    evaluated: int = 0
    """The newest iteration that was evaluated."""
    scores: dict[str, Any] | None = None
    """What the best weights so far scored, and their `iteration`; None before the first evaluation."""

    def add(self, iteration: int, scores: dict[str, Any]) -> bool:
        """Whether these are the best so far, by `reward`. Of equal ones the first stays; None is no score."""
        self.evaluated = iteration
        reward = scores["reward"]
        if reward is None or (self.scores is not None and reward <= self.scores["reward"]):
            return False
        self.scores = {"iteration": iteration} | scores
        return True

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluated, self.scores = state["evaluated"], state["scores"]
