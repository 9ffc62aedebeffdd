"""Rules about the optimiser's steps."""

from statistics import fmean, median

from vgrpo.pages.run_files import table
from vgrpo.training.record.signs import FIRST_RATIO, SPIKE
from vgrpo.workbench.rules.base import ENOUGH, LONG, RECENT, Finding, Numbers

RUNAWAY = 5.0
"""The largest ratio of an iteration, or the inverse of the least, as a median over recent iterations."""


def runaway_ratios(numbers: Numbers) -> Finding | None:
    high, low = (numbers.series.known(f"ratio/{end}")[-RECENT:] for end in ("max", "min"))
    if len(high) < ENOUGH or len(low) < ENOUGH:
        return None
    most, least = median(high), median(low)
    if most < RUNAWAY and least > 1 / RUNAWAY:
        return None
    return Finding(
        level="bad",
        title=f"Ratios of new to old likelihood reach from {least:.2g} to {most:.3g}",
        advice="One rollout moves the model too far. Lower update.lr or update.max_grad_norm, or take fewer steps per rollout.",
        curves=("ratio/max", "ratio/min", "grad_norm"),
    )


CLIPPED = 0.3
"""Share of images whose ratio is outside the clip range."""


def clipped(numbers: Numbers) -> Finding | None:
    share = numbers.recent("clip_share")
    if share is None or share < CLIPPED:
        return None
    return Finding(
        level="warn",
        title=f"Ratios leave the clip range in {share:.0%} of the images",
        advice="These images no longer teach. Lower the learning rate (update.lr), or take fewer optimiser steps per rollout "
        "(update.num_minibatches, update.num_epochs).",
        curves=("clip_share", "ratio/max", "ratio/min"),
    )


BAD_STEPS = 1
"""Optimiser steps that were left out, in the last RECENT iterations."""


def bad_steps(numbers: Numbers) -> Finding | None:
    count = sum(numbers.series.known("bad_steps")[-RECENT:])
    if count < BAD_STEPS:
        return None
    return Finding(
        level="bad",
        title=f"{count:.0f} optimiser steps were left out: loss or gradient was not finite",
        advice="Try --precision fp32; if it stays, lower update.lr.",
        curves=("bad_steps", "grad_norm"),
    )


SPIKES = 3
"""In the last 50 iterations."""


def gradient_spikes(numbers: Numbers) -> Finding | None:
    norms = numbers.series.known("grad_norm")[-50:]
    if len(norms) < ENOUGH:
        return None
    usual = median(norms)
    count = sum(norm > SPIKE * usual for norm in norms)
    if count < SPIKES or usual == 0:
        return None
    return Finding(
        level="warn",
        title=f"The gradient's norm jumped to over {SPIKE:.0f} times its median in {count} of {len(norms)} iterations",
        advice=f"A smaller update.max_grad_norm, such as {usual * 2:.2g}, bounds what one iteration can do.",
        curves=("grad_norm",),
    )


ALWAYS_LAG = ("crd",)
"""Algorithms whose old weights lag by no setting of theirs."""


def first_ratio(numbers: Numbers) -> Finding | None:
    """Not where the old weights lag, by the algorithm or by drawing ahead: there the first ratio is not 1."""
    values = numbers.series.known("ratio/first")[-RECENT:]
    objective = table(numbers.settings.get("objective"))
    lags = objective.get("name") in ALWAYS_LAG or objective.get("old_schedule") not in (None, "none")
    lags = lags or table(numbers.settings.get("rollout")).get("lag") == 1
    if len(values) < ENOUGH or lags or fmean(abs(value - 1) for value in values) < FIRST_RATIO:
        return None
    return Finding(
        level="warn",
        title=f"Before the first optimiser step the ratio is {fmean(values):.3f} and not 1",
        advice="Old and current answers differ although the weights are the same: dropout in the network, or a kernel that is "
        "not deterministic. Try --precision fp32.",
        curves=("ratio/first",),
    )


SURROGATE = 5.0
"""Times its start: how much the variation of the surrogate inside groups may grow."""


def noisy_surrogate(numbers: Numbers) -> Finding | None:
    values = numbers.series.known("surrogate/cv_within")
    if len(values) < LONG:
        return None
    before, after = fmean(values[:ENOUGH]), fmean(values[-ENOUGH:])
    if not after > SURROGATE * before > 0:
        return None
    return Finding(
        level="warn",
        title=f"The surrogate varies {after / before:.1f} times as much inside groups as at the start",
        advice="The images of a group leave each other, or the model leaves its own images. More points per image "
        f"(objective.num_probes) or a larger {numbers.tether} steady it.",
        curves=("surrogate/cv_within", "surrogate/cv_between"),
    )
