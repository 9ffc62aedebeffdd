"""The rules on recorded runs that have their illness, and on others (record.py makes them)."""

import json
import re
from pathlib import Path

import pytest

from vgrpo.workbench.rules import RULES, diagnosis, findings
from vgrpo.workbench.rules.base import Numbers
from vgrpo.workbench.series import Series

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
FOUND = {
    "well": set(),
    "hacked": {"hacking"},
    "without spread": {"no_spread", "flat_reward"},
    "asleep": {"flat_reward"},
    "failing": {"failing_reward"},
    "bad steps": {"bad_steps"},
    "jumping": {"gradient_spikes"},
    "by heart": {"does_not_generalise"},
}
"""What is found in each recording: its illness, and nothing else."""


def numbers_of(name, rows=None, **changes):
    """A recording, or its beginning, with some columns replaced."""
    entry, series = RECORDED[name], Series()
    columns = entry["columns"] | {key.replace("__", "/"): column for key, column in changes.items()}
    series.columns = {key: column[:rows] for key, column in columns.items()}
    series.rows = len(series.columns["iteration"])
    return Numbers(series=series, settings=entry["settings"], evaluation=entry["evaluation"])


@pytest.mark.parametrize("name", FOUND)
def test_each_illness_is_found_and_no_other(name):
    assert {finding.rule for finding in findings(numbers_of(name))} == FOUND[name]


@pytest.mark.parametrize("name", [name for name in FOUND if name not in ("failing", "bad steps")])
def test_what_takes_a_mean_is_not_said_too_early(name):
    assert findings(numbers_of(name, rows=9)) == []


RISE = [i / 48 for i in range(48)]
EDITED = {
    "clipped": {"clip_share": [0.5] * 48},
    "runaway_ratios": {"ratio__max": [8.0] * 48},
    "first_ratio": {"ratio__first": [1.1] * 48},
    "falling_reward": {"reward__mean": RISE[::-1]},
    "noisy_surrogate": {"surrogate__cv_within": [0.1] * 24 + [0.9] * 24},
    "slowed_down": {"images_per_second": [40.0] * 36 + [10.0] * 12},
    "slow_reward": {"seconds__reward": [7.0] * 48, "seconds__total": [10.0] * 48},
}
"""Illnesses that the tiny pipeline cannot be driven into in a minute: the well run with some of its numbers replaced."""


@pytest.mark.parametrize("rule", EDITED)
def test_an_illness_in_an_otherwise_well_run(rule):
    assert {finding.rule for finding in findings(numbers_of("well", **EDITED[rule]))} == {rule}


def test_every_rule_is_tested_and_documented():
    assert {*EDITED, *(rule for found in FOUND.values() for rule in found)} == RULES.keys()
    page = (Path(__file__).parents[2] / "docs/workbench.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(RULES)


@pytest.mark.parametrize("objective", [{"old_schedule": "fast"}, {"name": "crd"}])
def test_a_lagging_run_has_no_first_ratio_of_one(objective):
    numbers = numbers_of("well", **EDITED["first_ratio"])
    lagging = Numbers(series=numbers.series, settings=numbers.settings | {"objective": objective})
    assert findings(lagging) == []


def test_what_the_page_is_given():
    found = diagnosis(numbers_of("hacked"))
    (finding,) = found["findings"]
    assert (found["iterations"], found["enough"], finding["level"]) == (48, True, "bad")
    assert finding["curves"] == ("reward/mean", "monitor/record:natural")
    assert finding["look"]  # at the pictures that earn most
    assert 19 <= finding["since"] < 48  # the alarm needs twenty iterations
    assert "record:natural is down since iteration" in finding["title"]


@pytest.mark.parametrize(
    ("objective", "setting"),
    [({"kl_weight": 0.0, "ref_weight": 0.0}, "objective.ref_weight"), ({"kl_weight": 0.04}, "objective.kl_weight")],
    ids=["vgrpo", "flowgrpo"],
)
def test_the_advice_names_the_weight_that_holds_to_the_untrained_model(objective, setting):
    hacked = numbers_of("hacked")
    (finding,) = findings(Numbers(series=hacked.series, settings=hacked.settings | {"objective": objective}))
    assert setting in finding.advice
