"""Rules about rewards that fail and time that is lost."""

from statistics import fmean, median

from vgrpo.pages.run_files import number, table
from vgrpo.workbench.rules.base import ENOUGH, LONG, RECENT, Finding, Numbers

FAILED = 0.05
"""Share of images on which a reward failed."""


def failing_reward(numbers: Numbers) -> Finding | None:
    rollout = table(numbers.settings.get("rollout"))
    per_iteration = (number(rollout.get("num_prompts")) or 0) * (number(rollout.get("group_size")) or 0)
    failed = numbers.series.known("reward/failed")[-RECENT:]
    if not failed or per_iteration <= 0 or fmean(failed) / per_iteration < FAILED:
        return None
    return Finding(
        level="bad",
        title=f"A reward failed on {fmean(failed) / per_iteration:.0%} of the images",
        advice="They count for nothing. The console says why; mend the reward, or raise --reward-timeout.",
        curves=("reward/failed",),
    )


SLOW = 0.6
"""Of the usual images per second."""


def slowed_down(numbers: Numbers) -> Finding | None:
    rates = numbers.series.known("images_per_second")
    if len(rates) < LONG:
        return None
    usual, now = median(rates[:-ENOUGH]), median(rates[-ENOUGH:])
    if now >= SLOW * usual:
        return None
    phases = {name: numbers.series.known(name) for name in ("seconds/rollout", "seconds/reward", "seconds/update")}
    grown = {n: median(v[-ENOUGH:]) - median(v[:-ENOUGH]) for n, v in phases.items() if len(v) >= LONG}
    where = f" The phase that grew is {max(grown, key=lambda n: grown[n]).removeprefix('seconds/')}." if grown else ""
    return Finding(
        level="note",
        title=f"{now:.3g} images per second now, {usual:.3g} before",
        advice=f"Something else uses the machine, it is throttled, or a reward's server is slower.{where}",
        curves=("images_per_second", *phases),
    )


WAITING = 0.6
"""Share of an iteration that goes into judging."""


def slow_reward(numbers: Numbers) -> Finding | None:
    reward, total = numbers.recent("seconds/reward"), numbers.recent("seconds/total")
    if reward is None or not total or reward / total < WAITING:
        return None
    return Finding(
        level="note",
        title=f"{reward / total:.0%} of the time goes into judging images",
        advice="Worker processes (--reward-workers), a device of its own (--reward-device) or servers (`vgrpo serve-reward`) "
        "let a reward judge while images are drawn; a smaller --rollout.batch-size lets it begin sooner.",
        curves=("seconds/reward", "seconds/rollout", "seconds/update"),
    )
