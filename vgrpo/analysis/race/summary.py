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

Curve = list[dict[str, Any]]  # one run's evaluations, in order
TARGET_GAINS = (0.05, 0.10, 0.15, 0.20)


def read_curves(path: Path) -> dict[str, dict[int, Curve]]:
    """Evaluations by method and seed."""
    curves: dict[str, dict[int, Curve]] = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines():
        record = json.loads(line)
        curves[record["method"]][record["seed"]].append(record)
    return {method: dict(seeds) for method, seeds in curves.items()}


def first_reach(curve: Curve, target: float, axis: str) -> float:
    """Where along `axis` a curve first reaches a strict score, between evaluations by a straight line; inf if never."""
    for before, after in pairwise(curve):
        if after["strict"] >= target:
            rise = after["strict"] - before["strict"]
            share = (target - before["strict"]) / rise if rise > 0 else 1.0
            return float(before[axis] + max(0.0, share) * (after[axis] - before[axis]))
    return math.inf


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One method over all its seeds."""

    method: str
    num_seeds: int
    final: float
    interval: float  # half width of the 95% confidence interval of `final`; nan with one seed
    best: float
    reward: float  # final, mean over seeds
    reach: dict[float, dict[str, list[float]]]  # target gain -> seconds, nfe, steps of every seed, sorted
    seconds_per_iteration: dict[str, float]
    diversity: float  # final, relative to the start
    drift: float


def summarise_method(method: str, seeds: dict[int, Curve], base: float) -> Summary:
    finals = [curve[-1]["strict"] for curve in seeds.values()]
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
        final=statistics.mean(finals),
        interval=_half_width(finals),
        best=statistics.mean(max(point["strict"] for point in curve) for curve in seeds.values()),
        reward=statistics.mean(end["reward"] for end in last),
        reach=reach,
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


def summarise_all(path: Path) -> list[Summary]:
    """All methods, the best first. The base score is the mean of the first evaluations, where nothing is trained yet."""
    curves = read_curves(path)
    base = statistics.mean(curve[0]["strict"] for seeds in curves.values() for curve in seeds.values())
    summaries = [summarise_method(method, seeds, base) for method, seeds in curves.items()]
    return sorted(summaries, key=lambda summary: -summary.final)


def markdown(path: Path) -> str:
    """The comparison as tables."""
    summaries = summarise_all(path)
    fields = " | ".join(f"+{gain:.2f}" for gain in TARGET_GAINS)
    lines = [
        f"| method | seeds | final strict (95% CI) | best | final reward | seconds to {fields} | diversity | drift |",
        "|---" * (7 + len(TARGET_GAINS)) + "|",
    ]
    for s in summaries:
        times = " | ".join(_reached(s.reach[gain]["seconds"]) for gain in TARGET_GAINS)
        interval = "" if math.isnan(s.interval) else f" ± {s.interval:.3f}"
        final = f"{s.final:.3f}{interval} | {s.best:.3f} | {s.reward:.3f}"
        lines.append(f"| {s.method} | {s.num_seeds} | {final} | {times} | {s.diversity:.2f} | {s.drift:.2f} |")
    lines += [
        "",
        "| method | seconds per iteration: rollout | reward | update | NFE to +0.10 | steps to +0.10 |",
        "|---" * 6 + "|",
    ]
    for s in summaries:
        phases = " | ".join(f"{s.seconds_per_iteration[phase]:.2f}" for phase in ("rollout", "reward", "update"))
        lines.append(f"| {s.method} | {phases} | {_reached(s.reach[0.10]['nfe'])} | {_reached(s.reach[0.10]['steps'])} |")
    lines += [
        "",
        f"Time, NFE and steps to a gain in strict score: median over seeds (range), by straight lines between evaluations\n"
        f"{_spacing(path)}.",
    ]
    return "\n".join(lines) + "\n"


def _reached(values: list[float]) -> str:
    median, low, high = (_number(value) for value in (statistics.median(values), values[0], values[-1]))
    return median if low == high else f"{median} ({low} to {high})"


def _number(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:,.0f}"


def _spacing(path: Path) -> str:
    """How far apart evaluations lay in the median, in words."""
    seeds = [curve for method in read_curves(path).values() for curve in method.values()]
    gaps = [after["seconds"] - before["seconds"] for curve in seeds for before, after in pairwise(curve)]
    return f"{statistics.median(gaps):.0f} s apart" if gaps else "that there are not"
