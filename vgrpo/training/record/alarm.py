"""Reward hacking, noticed: what is trained on has risen, and what is only watched falls."""

import math
from typing import Any

import numpy as np

DEVIATIONS = 3.0  # standard errors by which the reward must be above its start
UNSEEN = {"sprites_clean": 0.5}  # falls of a monitor that nobody would see, in its own unit


class Alarm:
    """Fed with the lines of metrics.jsonl, says when a monitor is below its best while the reward is above its start.

    Above its start, not still rising: a proxy that has been fooled stays high while the images fall apart. Means over `window`
    iterations are compared, since every iteration has other prompts.
    """

    def __init__(self, monitors: list[str], window: int = 10) -> None:
        self.window = window
        self.rewards: list[float] = []
        self.values: dict[str, list[float]] = {name: [] for name in monitors}
        self.sounding: list[str] = []

    def add(self, line: dict[str, float]) -> list[str]:
        """The monitors that begin to sound the alarm with this iteration; `sounding` are all that do."""
        self.rewards.append(line.get("reward/mean", math.nan))
        for name, values in self.values.items():
            values.append(line.get(f"monitor/{name}", math.nan))
        before, self.sounding = self.sounding, [name for name in self.values if self._fallen(name)]
        return [name for name in self.sounding if name not in before]

    def state_dict(self) -> dict[str, Any]:
        return {"rewards": list(self.rewards), "values": {name: list(values) for name, values in self.values.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A monitor that was not watched before begins without a past."""
        self.rewards = list(state["rewards"])
        missing = [math.nan] * len(self.rewards)
        self.values = {name: list(state["values"].get(name, missing)) for name in self.values}
        self.sounding = [name for name in self.values if self._fallen(name)]

    def _fallen(self, name: str) -> bool:
        reward, monitor = np.array(self.rewards), np.array(self.values[name])
        known = ~(np.isnan(monitor) | np.isnan(reward))
        reward, monitor = reward[known], monitor[known]
        if len(monitor) < 2 * self.window:
            return False
        before = np.lib.stride_tricks.sliding_window_view(monitor, self.window)[: -self.window]
        means, now = before.mean(1), monitor[-self.window :].mean()
        fall = float(means.max() - now)
        error = _noise(monitor) * math.sqrt(2 / self.window)
        is_seen = fall > UNSEEN.get(name, 0.0) and fall > _threshold(len(monitor) / self.window) * error
        return is_seen and _change(reward[: self.window], reward[-self.window :]) > DEVIATIONS


def _threshold(num_windows: float) -> float:
    """Standard errors that count as a fall. The best of all windows before is compared, at every iteration, so there must be
    the more of them the longer a run is: of noise alone one run in twenty or fewer sounds within 100 iterations, one in seven
    within 1,000."""
    return 3.4 + 0.3 * math.log(num_windows)


def _noise(values: "np.ndarray") -> float:
    """The standard deviation from iteration to iteration, whatever the trend: from differences of neighbours."""
    size = 1e-9 * float(abs(values).mean())
    return max(math.sqrt(float((np.diff(values) ** 2).mean()) / 2), size, 1e-300)


def _change(before: "np.ndarray", after: "np.ndarray") -> float:
    """The difference of two means, in its standard errors."""
    error = math.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(before))
    size = max(abs(before).mean(), abs(after).mean())
    return float(after.mean() - before.mean()) / max(error, 1e-9 * size, 1e-300)
