"""The comparison as pictures: scores against time, network evaluations and steps; diversity and drift at the end."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from vgrpo.analysis.race.summary import Curve, read_curves, summarise_all

AXES = {"seconds": "training time, s of one core", "nfe": "network evaluations", "steps": "optimiser steps"}
SCORES = {"reward": "held-out reward", "strict": "held-out strict score"}
ENDS = {"drift": "drift of the latents from the base", "diversity": "diversity, of its start"}
Colors = dict[str, Any]  # by method


def plot(results: Path, folder: Path) -> list[Path]:
    """Write curves.png and end.png; returns their paths."""
    summaries, curves = summarise_all(results), read_curves(results)
    palette = plt.get_cmap("tab10" if len(summaries) <= 10 else "tab20")
    colors = {summary.method: palette(index % palette.N) for index, summary in enumerate(summaries)}
    figures = {"curves.png": _curves(curves, colors), "end.png": _end(curves, colors)}
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)
    return [folder / name for name in figures]


def _curves(curves: dict[str, dict[int, Curve]], colors: Colors) -> Figure:
    figure, rows = plt.subplots(2, 3, figsize=(15, 8.4), sharex="col", sharey="row", constrained_layout=True)
    for row, (score, score_label) in zip(rows, SCORES.items(), strict=True):
        for axis, name in zip(row, AXES, strict=True):
            for method, color in colors.items():
                _band(axis, list(curves[method].values()), name, score, method, color)
            _tidy(axis)
        row[0].set_ylabel(score_label)
    for axis, label in zip(rows[-1], AXES.values(), strict=True):
        axis.set_xlabel(label)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    rows[0, -1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _band(axis: Axes, seeds: list[Curve], name: str, score: str, method: str, color: Any) -> None:
    """The mean curve over seeds and the range between them, at the evaluations that all seeds have."""
    length = min(len(curve) for curve in seeds)
    x = [statistics.mean(curve[i][name] for curve in seeds) for i in range(length)]
    y = [[curve[i][score] for curve in seeds] for i in range(length)]
    axis.plot(x, [statistics.mean(values) for values in y], color=color, label=method)
    axis.fill_between(x, [min(values) for values in y], [max(values) for values in y], color=color, alpha=0.15, linewidth=0)


def _end(curves: dict[str, dict[int, Curve]], colors: Colors) -> Figure:
    """Every seed's last evaluation, small, and their mean, large."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True, constrained_layout=True)
    for axis, (name, label) in zip(axes, ENDS.items(), strict=True):
        for method, color in colors.items():
            seeds = curves[method].values()
            x, y = [_at_end(curve, name) for curve in seeds], [curve[-1]["reward"] for curve in seeds]
            axis.scatter(x, y, s=16, alpha=0.6, linewidth=0, color=color)
            axis.scatter(statistics.mean(x), statistics.mean(y), s=70, color=color, edgecolor="white", label=method)
        axis.set_xlabel(label)
        _tidy(axis)
    axes[0].set_ylabel("final reward")
    axes[-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _at_end(curve: Curve, name: str) -> float:
    """Drift, or diversity relative to the untrained model's."""
    return float(curve[-1][name] / (max(curve[0][name], 1e-9) if name == "diversity" else 1.0))


def _tidy(axis: Axes) -> None:
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
