"""Rules about what is learned."""

import math
from statistics import fmean

from vgrpo.pages.run_files import number, table
from vgrpo.training.record.alarm import Alarm
from vgrpo.training.record.signs import COLLAPSED
from vgrpo.workbench.rules.base import ENOUGH, FLAT, Finding, Numbers, change

LOOKS = 100
"""How finely a run is searched for the iteration since when it is hacked."""


def hacking(numbers: Numbers) -> Finding | None:
    """The thresholds are the alarm's (vgrpo/training/record/alarm.py)."""
    rows = numbers.series.rows
    fallen = _sounding(numbers, rows)
    if not fallen:
        return None
    stride = max(1, rows // LOOKS)
    first = rows
    while first > stride and set(_sounding(numbers, first - stride)) & set(fallen):
        first -= stride
    names = ", ".join(sorted(fallen))
    return Finding(
        level="bad",
        title=f"The reward is up and {names} is down since iteration {first}: likely reward hacking",
        advice="Look at the newest pictures beside earlier ones. If they are worse, take a checkpoint from before, and train "
        f"with the monitor as a second reward, a larger {numbers.tether}, or fewer iterations.",
        since=first - 1,
        curves=("reward/mean", *(f"monitor/{name}" for name in sorted(fallen))),
        look=True,
    )


def _sounding(numbers: Numbers, rows: int) -> list[str]:
    """The monitors that the alarm would sound for after so many iterations."""

    def column(name: str) -> list[float]:
        values = numbers.series.columns.get(name, [None] * rows)[:rows]
        return [math.nan if value is None else value for value in values]

    alarm = Alarm(numbers.monitors)
    monitors = {name: column(f"monitor/{name}") for name in numbers.monitors}
    alarm.load_state_dict({"rewards": column("reward/mean"), "values": monitors})
    return alarm.sounding


def falling_reward(numbers: Numbers) -> Finding | None:
    """Two thresholds of FLAT: a fall that is no noise."""
    moved = change(numbers.series.known("reward/mean"))
    if moved is None or moved > -2 * FLAT:
        return None
    return Finding(
        level="bad",
        title="The reward is lower than at the start",
        advice="Training harms the model: the learning rate is too high, or the reward's sign is wrong (reward_weights). Lower "
        "update.lr to a third.",
        curves=("reward/mean", "grad_norm", "kl"),
        look=True,
    )


NO_SPREAD = 0.5
"""Share of groups in which all images earned the same."""


def no_spread(numbers: Numbers) -> Finding | None:
    share, reward = numbers.recent("reward/zero_std_groups"), numbers.recent("reward/mean")
    if share is None or share < NO_SPREAD:
        return None
    best = max(numbers.series.known("reward/mean"), default=0.0)
    hint = "" if reward is None else f" The reward is {reward:.3g} now and was {best:.3g} at its best."
    return Finding(
        level="bad" if share > COLLAPSED else "warn",
        title=f"{share:.0%} of the groups have no spread, so they teach nothing",
        advice="The prompts are too easy or too hard for the model, or the reward is too coarse. Take other prompts, larger "
        f"groups (rollout.group_size), or a reward with partial credit.{hint}",
        curves=("reward/zero_std_groups", "reward/std"),
        look=True,
    )


def flat_reward(numbers: Numbers) -> Finding | None:
    moved = change(numbers.series.known("reward/mean"))
    if moved is None or abs(moved) >= FLAT:
        return None
    return Finding(
        level="warn",
        title="The reward has not moved since the start",
        advice="Raise the learning rate (update.lr) threefold, or draw larger groups: `vgrpo diagnose MODEL` says how noisy "
        "the likelihood is and what that takes. If most groups have no spread, look there first.",
        curves=("reward/mean", "reward/std"),
    )


GAIN = 0.2
"""Share of the gain in training that must be seen on held-out prompts."""


def does_not_generalise(numbers: Numbers) -> Finding | None:
    base, tuned = (number(table(numbers.evaluation.get(part)).get("reward")) for part in ("base", "tuned"))
    rewards = numbers.series.known("reward/mean")
    moved = change(rewards)
    if base is None or tuned is None or moved is None or moved < 2 * FLAT:
        return None
    trained = fmean(rewards[-ENOUGH:]) - fmean(rewards[:ENOUGH])
    if tuned - base >= GAIN * trained:
        return None
    return Finding(
        level="warn",
        title=f"Trained prompts gained {trained:+.3g}, held-out ones {tuned - base:+.3g}",
        advice="The model learned these prompts rather than the task. Take more and other prompts, or fewer iterations.",
        curves=("reward/mean",),
    )
