"""The search for settings: repeatable, the same for all, by reward on training prompts; and the ratio's statistics."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import helpers
import numpy as np
import pytest
from helpers.work import impossible_three
from scipy import stats

from vgrpo.analysis.race.config import BenchConfig, Search
from vgrpo.analysis.race.equal import EQUAL
from vgrpo.analysis.race.lane import read_lines
from vgrpo.analysis.race.ratios import Times, in_words, time_ratio
from vgrpo.analysis.race.space import changed, trial_changes
from vgrpo.analysis.race.suites import PUBLISHED, SUITES, spaces
from vgrpo.analysis.race.tune import read_tuned, reward_of
from vgrpo.analysis.race.workers import WorkerError, share_out
from vgrpo.commands.bench import choose
from vgrpo.commands.main import main


@pytest.mark.parametrize("name", EQUAL)
def test_trials_are_different_valid_and_the_same_every_time(name):
    entry, space = EQUAL[name], spaces("equal")[name]
    trials = trial_changes(name, entry, space, 12, seed=100)
    assert trials[0] == {}
    settings = [changed(entry, change) for change in trials]
    assert all(first != second for i, first in enumerate(settings) for second in settings[:i])
    assert trial_changes(name, entry, space, 12, seed=100) == trials
    assert trial_changes(name, entry, space, 6, seed=100) == trials[:6]
    assert trial_changes(name, entry, space, 12, seed=101) != trials
    for each in (change for dimension in space for change in dimension):
        changed(entry, each)  # every alternative exists and is allowed by itself


def test_alternatives_that_do_not_go_together_are_drawn_again():
    entry = SUITES["smoke"]["mixgrpo"]  # four prompts, of which nobody makes six minibatches
    trials = trial_changes("mixgrpo", entry, spaces("smoke")["mixgrpo"], 40, seed=0)
    assert len(trials) == 40
    for change in trials:
        changed(entry, change)
    six = [change for change in trials if change.get("update.num_minibatches") == 6]
    assert all(change["rollout.num_prompts"] > 4 for change in six)


def test_of_a_published_method_the_rate_alone_is_tuned():
    entry = PUBLISHED["awm"]
    trials = trial_changes("awm", entry, spaces("published")["awm"], 8, seed=0)
    assert {name for change in trials for name in change} == {"update.lr"}
    rates = [change["update.lr"] for change in trials[1:]]
    assert all(1e-3 <= rate <= 9e-3 for rate in rates)


def test_a_setting_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no settings warmth"):
        changed(EQUAL["awm"], {"objective.warmth": 1.0})


def test_tuning_goes_round_by_round_and_the_race_takes_what_won(tmp_path):
    line = (
        f"bench --tune --suite smoke --only mixgrpo --search.num-trials 3 --search.seconds 0.3 0.6"
        f" --num-prompts 7 --num-images 2 --output-dir {tmp_path}"
    )
    assert main(line.split()) == 0
    lines = read_lines(tmp_path / "results.jsonl")
    rounds = [{f"mixgrpo {n}" for n in range(3) if (reward_of(f"mixgrpo {n}", lines, s)) is not None} for s in (0.3, 0.6)]
    first = {name: reward_of(name, lines, 0.3) for name in rounds[0]}
    assert len(first) == 3
    assert set(sorted(first, key=lambda name: (-first[name], name))[:1]) <= rounds[1]
    found = json.loads((tmp_path / "tuned.json").read_text())
    won = found["methods"]["mixgrpo"]
    finals = {name: reward_of(name, lines, 0.6) for name in rounds[1]}
    assert won["reward"] == pytest.approx(max(finals.values()), abs=1e-4)
    assert found["search"] == {"num_trials": 3, "seconds": [0.3, 0.6], "seed": 100}
    assert main(line.split()) == 0  # nothing is left to do
    assert read_lines(tmp_path / "results.jsonl") == lines
    entry = choose(BenchConfig(suite="smoke", only=("mixgrpo",), tuned=tmp_path / "tuned.json"))["mixgrpo"]
    assert entry == changed(SUITES["smoke"]["mixgrpo"], won["settings"])


def test_settings_of_another_search_are_refused(tmp_path):
    path = tmp_path / "tuned.json"
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_tuned(path, "equal", {})
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not what vgrpo bench --tune writes"):
        read_tuned(path, "equal", {})
    path.write_text(json.dumps({"suite": "equal", "methods": {"awm": {"settings": {"update.lr": 1e-3}}}}))
    with pytest.raises(ValueError, match="is of --suite equal, not published"):
        read_tuned(path, "published", {})
    with pytest.raises(ValueError, match="has no settings of mixgrpo"):
        read_tuned(path, "equal", {name: EQUAL[name] for name in ("awm", "mixgrpo")})
    awm = read_tuned(path, "equal", {"awm": EQUAL["awm"]})["awm"]
    assert awm == replace(EQUAL["awm"], update=replace(EQUAL["awm"].update, lr=1e-3))


def test_rounds_must_rise():
    with pytest.raises(ValueError, match="each after the last"):
        Search(seconds=(30.0, 15.0))
    with pytest.raises(ValueError, match="seconds: tuning has settings of its own"):
        BenchConfig(tune=True, seconds=3.0)


def test_the_ratio_has_welchs_interval():
    rng = np.random.default_rng(0)
    rival, leader = np.exp(rng.normal(4, 0.2, 8)), np.exp(rng.normal(3.5, 0.1, 12))
    found = time_ratio(Times(seconds=tuple(rival), num_never=0), Times(seconds=tuple(leader), num_never=0))
    expected = stats.ttest_ind(np.log(rival), np.log(leader), equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.value == pytest.approx(stats.gmean(rival) / stats.gmean(leader))
    assert found.leads


def test_runs_that_never_get_there_leave_a_bound():
    whole, cut = Times(seconds=(20.0, 22.0, 25.0), num_never=0), Times(seconds=(60.0, 75.0, 75.0), num_never=2)
    assert in_words(cut, whole).startswith("> 3.1")
    assert in_words(whole, cut).startswith("< 0.3")
    assert in_words(cut, cut).startswith("~ 1.00")
    assert time_ratio(cut, whole).high == math.inf
    assert time_ratio(whole, cut).low == 0
    assert in_words(Times(seconds=(30.0,), num_never=0), Times(seconds=(20.0,), num_never=0)) == "1.50"


def test_intervals_of_cut_times_keep_their_promise():
    """The lower end lies below the true ratio in at least 95 of 100 races, though runs are cut."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        rival, leader = np.exp(rng.normal(np.log(60), 0.25, 10)), np.exp(rng.normal(np.log(30), 0.2, 10))
        times = Times(seconds=tuple(np.minimum(rival, 75)), num_never=int((rival > 75).sum()))
        covered += time_ratio(times, Times(seconds=tuple(leader), num_never=0)).low < 2
    assert covered >= 0.95 * 400


def test_a_failure_in_one_process_ends_all():
    seen = []
    with pytest.raises(WorkerError, match="task 3 is impossible"):
        share_out(impossible_three, [1, 3], 2, seen.append)
    assert set(seen) <= {1, 3}
    with pytest.raises(ValueError, match="task 3"):
        share_out(impossible_three, [3], 2, seen.append)


def test_processes_share_the_work():
    seen = []
    share_out(impossible_three, [1, 2, 4], 2, seen.append)
    assert sorted(seen) == [1, 2, 4]


KILLED = """
import os, signal, sys
from vgrpo.analysis.race.workers import share_out
from helpers.work import name_yourself

names = []

def note(pid):
    names.append(pid)
    if len(names) == 2:
        print(*names, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    share_out(name_yourself, [1, 2], 2, note)
"""


def test_workers_end_with_a_first_process_that_is_killed(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    path = os.pathsep.join([str(Path(helpers.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "killed.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    until = time.monotonic() + 60
    for pid in map(int, done.stdout.split()):
        while _is_there(pid):
            assert time.monotonic() < until
            time.sleep(0.05)


def _is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # an ended one that nobody asked for
