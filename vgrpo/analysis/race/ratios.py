"""How many times as long another method takes: the ratio of times to a target, with Welch's interval of their logarithms.

A run that never reached the target is censored: its time counts as that of the shortest run. Where only the other method has
such runs the ratio is a lower bound, and so is the lower end of its interval, which is one of `min(time, budget)`. Where only
the leader has them it is an upper bound. Where both have, it compares times cut at the budget, and is no bound of whole ones.
"""

import math
import statistics
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds to a target, one for each seed: when it was reached, or else how long the run was."""

    seconds: tuple[float, ...]
    num_never: int


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Of a rival's times to the leader's. `low` and `high` are the ends of the 95% interval, nan with one seed."""

    value: float
    low: float
    high: float

    @property
    def leads(self) -> bool:
        """Whether the leader is faster, beyond what chance explains."""
        return self.low > 1


def time_ratio(rival: Times, leader: Times) -> Ratio:
    """The geometric mean of a rival's times over that of the leader's, with Welch's 95% interval. Infinite where censored runs
    of the rival alone leave no upper end, 0 where those of the leader alone leave no lower one."""
    logs = [[math.log(max(value, 1e-9)) for value in times.seconds] for times in (rival, leader)]
    difference = statistics.mean(logs[0]) - statistics.mean(logs[1])
    half = _half_width(*logs)
    low, high = math.exp(difference - half), math.exp(difference + half)
    if rival.num_never and not leader.num_never:
        high = math.inf
    if leader.num_never and not rival.num_never:
        low = 0.0
    return Ratio(value=math.exp(difference), low=low, high=high)


def _half_width(first: list[float], second: list[float]) -> float:
    """Of Welch's 95% interval of the difference of two means, with Satterthwaite's degrees of freedom."""
    if min(len(first), len(second)) < 2:
        return math.nan
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    if sum(parts) == 0:
        return 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    return float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))


def in_words(rival: Times, leader: Times) -> str:
    """`2.4 (1.9 to 3.1)`; `> 2.5 (> 2.1)` where runs of the rival never got there, `< ` for the leader's, `~ ` for both."""
    ratio = time_ratio(rival, leader)
    sign = {(True, False): "> ", (False, True): "< ", (True, True): "~ ", (False, False): ""}[
        rival.num_never > 0, leader.num_never > 0
    ]
    ends = {"> ": f"> {ratio.low:.2f}", "< ": f"< {ratio.high:.2f}"}.get(sign, f"{ratio.low:.2f} to {ratio.high:.2f}")
    return f"{sign}{ratio.value:.2f}" if math.isnan(ratio.low + ratio.high) else f"{sign}{ratio.value:.2f} ({ends})"
