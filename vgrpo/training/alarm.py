"""Reward hacking, noticed: what is trained on has risen, and what is only watched falls."""

import math
from typing import Any

import numpy as np

DEVIATIONS = 3.0  # standard errors that count as a change; the best of many windows is compared, so two would cry wolf


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
        best = int(before.mean(1).argmax())
        start, then, now = slice(self.window), slice(best, best + self.window), slice(-self.window, None)
        return _change(monitor[then], monitor[now]) < -DEVIATIONS and _change(reward[start], reward[now]) > DEVIATIONS


def _change(before: "np.ndarray", after: "np.ndarray") -> float:
    """The difference of two means, in its standard errors."""
    error = math.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(before))
    size = max(abs(before).mean(), abs(after).mean())
    return float(after.mean() - before.mean()) / max(error, 1e-9 * size, 1e-300)
