"""From results.jsonl to what a reader compares: curves, time to a target, split of an iteration, spread over seeds."""

import json
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from scipy import stats

from vgrpo.analysis.race.ratios import Times, in_words

Curve = list[dict[str, Any]]  # one run's evaluations, in order
TARGET_GAINS = (0.05, 0.10, 0.15, 0.20)


def read_curves(path: Path) -> dict[str, dict[int, Curve]]:
    """Evaluations by method and seed."""
    curves: dict[str, dict[int, Curve]] = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines():
        record = json.loads(line)
        curves[record["method"]][record["seed"]].append(record)
    return {method: dict(seeds) for method, seeds in curves.items()}


def first_reach(curve: Curve, target: float, axis: str, score: str = "reward") -> float:
    """Where along `axis` a curve first reaches a score, between evaluations by a straight line; inf if never."""
    for before, after in pairwise(curve):
        if after[score] >= target:
            rise = after[score] - before[score]
            share = (target - before[score]) / rise if rise > 0 else 1.0
            return float(before[axis] + max(0.0, share) * (after[axis] - before[axis]))
    return math.inf


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One method over all its seeds. Reward is the first measure: of two runs with the same settings it differs half as much as
    the strict score does."""

    method: str
    num_seeds: int
    reward: float  # final
    interval: float  # half width of the 95% confidence interval of `reward`; nan with one seed
    strict: float  # final
    reach: dict[float, dict[str, list[float]]]  # target gain -> seconds, nfe, steps of every seed, sorted
    seconds: list[float]  # of every seed, all in all
    seconds_per_iteration: dict[str, float]  # on the wall
    diversity: float  # final, relative to the start
    drift: float

    def times(self, gain: float) -> Times:
        """To a gain, those of runs without it cut at their end."""
        reached = self.reach[gain]["seconds"]
        never = sum(math.isinf(value) for value in reached)
        cut = tuple(min(self.seconds) if math.isinf(value) else value for value in reached)
        return Times(seconds=cut, num_never=never)


def summarise_method(method: str, seeds: dict[int, Curve], base: float) -> Summary:
    last = [curve[-1] for curve in seeds.values()]
    reach = {
        gain: {
            axis: sorted(first_reach(curve, base + gain, axis) for curve in seeds.values())
            for axis in ("seconds", "nfe", "steps")
        }
        for gain in TARGET_GAINS
    }
    return Summary(
        method=method,
        num_seeds=len(seeds),
        reward=statistics.mean(end["reward"] for end in last),
        interval=_half_width([end["reward"] for end in last]),
        strict=statistics.mean(end["strict"] for end in last),
        reach=reach,
        seconds=[end["seconds"] for end in last],
        seconds_per_iteration={
            phase: statistics.mean(end["phases"].get(phase, 0.0) / max(1, end["iteration"]) for end in last)
            for phase in ("rollout", "reward", "update")
        },
        diversity=statistics.mean(curve[-1]["diversity"] / max(curve[0]["diversity"], 1e-9) for curve in seeds.values()),
        drift=statistics.mean(end["drift"] for end in last),
    )


def _half_width(values: list[float]) -> float:
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def base_reward(curves: dict[str, dict[int, Curve]]) -> float:
    """The mean of the first evaluations, where nothing is trained yet."""
    return statistics.mean(curve[0]["reward"] for seeds in curves.values() for curve in seeds.values())


def summarise_all(path: Path) -> list[Summary]:
    """All methods, the best first."""
    curves = read_curves(path)
    summaries = [summarise_method(method, seeds, base_reward(curves)) for method, seeds in curves.items()]
    return sorted(summaries, key=lambda summary: -summary.reward)


def markdown(path: Path, lead: str) -> str:
    """The comparison as tables; `lead` is the method whose times the others' are divided by, if it raced."""
    summaries = summarise_all(path)
    leaders = [summary for summary in summaries if summary.method == lead]
    parts = [_scores(summaries), *(_ratios(summaries, leader) for leader in leaders), _costs(summaries), _legend(path)]
    curves = read_curves(path)
    if all("trained" in curve[0] for seeds in curves.values() for curve in seeds.values()):
        parts.insert(0, _parting(curves))
    return "\n\n".join(parts) + "\n"


def _parting(curves: dict[str, dict[int, Curve]]) -> str:
    """Of runs on another reward than the verifier: what both gave, and what the verifier has taken back by the end."""
    rows = []
    for method, seeds in curves.items():
        runs = list(seeds.values())
        gains = [_spread([curve[-1][score] - curve[0][score] for curve in runs]) for score in ("trained", "reward", "strict")]
        lost = _spread([max(point["reward"] for point in curve) - curve[-1]["reward"] for curve in runs])
        rows.append(f"| {method} | {' | '.join(gains)} | {lost} |")
    head = "| method | gain of the trained reward (95% CI) | of the verifier | of the strict score |"
    return _table(f"{head} the verifier's fall from its best |", rows)


def _spread(values: list[float]) -> str:
    interval = _half_width(values)
    return f"{statistics.mean(values):+.3f}" + ("" if math.isnan(interval) else f" ± {interval:.3f}")


def _gains() -> str:
    return " | ".join(f"+{gain:.2f}" for gain in TARGET_GAINS)


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows])


def _scores(summaries: list[Summary]) -> str:
    rows = []
    for s in summaries:
        times = " | ".join(_reached(s.reach[gain]["seconds"]) for gain in TARGET_GAINS)
        interval = "" if math.isnan(s.interval) else f" ± {s.interval:.3f}"
        scores = f"{s.reward:.3f}{interval} | {s.strict:.3f} | {times} | {s.diversity:.2f} | {s.drift:.2f}"
        rows.append(f"| {s.method} | {s.num_seeds} | {scores} |")
    head = f"| method | seeds | final reward (95% CI) | final strict | CPU seconds to {_gains()} | diversity | drift |"
    return _table(head, rows)


def _ratios(summaries: list[Summary], leader: Summary) -> str:
    rows = []
    for s in (summary for summary in summaries if summary is not leader):
        rows.append(f"| {s.method} | {' | '.join(in_words(s.times(gain), leader.times(gain)) for gain in TARGET_GAINS)} |")
    return _table(f"| time over that of {leader.method} (95% CI) to | {_gains()} |", rows)


def _costs(summaries: list[Summary]) -> str:
    rows = []
    for s in summaries:
        phases = " | ".join(f"{s.seconds_per_iteration[phase]:.2f}" for phase in ("rollout", "reward", "update"))
        rows.append(f"| {s.method} | {phases} | {_reached(s.reach[0.10]['nfe'])} | {_reached(s.reach[0.10]['steps'])} |")
    return _table(
        "| method | seconds on the wall per iteration: rollout | reward | update | NFE to +0.10 | steps to +0.10 |", rows
    )


def _legend(path: Path) -> str:
    base = base_reward(read_curves(path))
    return (
        f"Gains are of the reward over the base model's {base:.3f}, and come by straight lines between evaluations\n"
        f"{_spacing(path)}. CPU seconds are those of one core, training alone. Times, NFE and steps: median over\n"
        "seeds (range), and how many seeds never got there. Ratios are of geometric means, with Welch's interval. > is a\n"
        "lower bound, where runs of the rival never got there, < an upper one, where the leader's did not, and ~ compares\n"
        "times cut at the end of the runs, where some of both did not."
    )


def _reached(values: list[float]) -> str:
    median, low, high = (_number(value) for value in (statistics.median(values), values[0], values[-1]))
    never = sum(math.isinf(value) for value in values)
    if never in (0, len(values)):
        return median if low == high else f"{median} ({low} to {high})"
    return f"{median} ({low} to never, {never} of {len(values)})"


def _number(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:,.0f}"


def _spacing(path: Path) -> str:
    """How far apart evaluations lay in the median, in words."""
    seeds = [curve for method in read_curves(path).values() for curve in method.values()]
    gaps = [after["seconds"] - before["seconds"] for curve in seeds for before, after in pairwise(curve)]
    return f"{statistics.median(gaps):.0f} s apart" if gaps else "that there are not"
