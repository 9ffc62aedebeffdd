"""The diagnosis as one picture: loss against t, variation with and without each technique, gradient against surrogate."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

BLUE, ORANGE, GREY = "#2f6db5", "#e07b39", "#9aa5b1"


def plot(found: dict[str, Any], path: Path) -> None:
    figure, (times, bars, scatter) = plt.subplots(1, 3, figsize=(15, 4.4), constrained_layout=True)
    lines = found["loss_by_time"]
    for name, color in (("x", BLUE), ("v", ORANGE), ("eps", GREY), ("normalised", "#4d9a5b")):
        shown = [line for line in lines if line[name] > 0]  # at t = 1 the state is the noise: nothing to predict, no logarithm
        times.plot([line["t"] for line in shown], [line[name] for line in shown], color=color, label=name)
    times.set(yscale="log", xlabel="t (1 is noise)", ylabel="denoising loss")
    times.legend(frameon=False)

    names = list(found["variation"])[::-1]
    rows = range(len(names))
    for offset, key, color in ((0.2, "overall", GREY), (-0.2, "within", BLUE)):
        values = [found["variation"][name][key] for name in names]
        bars.barh([row + offset for row in rows], values, height=0.38, color=color, label=key)
    bars.set_yticks(list(rows), names)
    bars.set_xlabel("coefficient of variation of the surrogate")
    bars.legend(frameon=False)

    for name, color in (("all three", BLUE), ("none, v-prediction", ORANGE)):
        value = found["gradient"][name]
        mean = [sum(value[key]) / len(value[key]) for key in ("surrogate", "norm")]
        x, y = ([item / m for item in value[key]] for key, m in zip(("surrogate", "norm"), mean, strict=True))
        scatter.scatter(x, y, s=14, alpha=0.7, color=color, label=f"{name}, R² {value['r2']:.2f}")
    scatter.set(xlabel="surrogate, of its mean", ylabel="gradient norm, of its mean")
    scatter.legend(frameon=False, loc="lower right", fontsize=9)
    for axis in (times, bars, scatter):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)
