"""The race, on the bundled model in its shortest form, and the summary's arithmetic."""

import json
import math

import pytest

from vgrpo.analysis.race.config import BenchConfig, Budget
from vgrpo.analysis.race.lane import drop_cut_line, read_lines
from vgrpo.analysis.race.suites import PUBLISHED, SUITES
from vgrpo.analysis.race.summary import first_reach, markdown, summarise_all
from vgrpo.commands.bench import choose
from vgrpo.commands.main import main
from vgrpo.objectives import ForwardObjective
from vgrpo.training.checkpoints import checkpoint


def point(seconds, reward, **more):
    phases = {"rollout": seconds / 2, "reward": 0.0, "update": seconds / 2}
    rest = {"iteration": int(seconds), "nfe": int(seconds * 100), "steps": int(seconds), "strict": reward, "phases": phases}
    return {"seconds": seconds, "reward": reward, "diversity": 1.0, "drift": seconds / 100, **rest, **more}


def write(path, methods):
    """results.jsonl of curves by method, one for each seed."""
    with path.open("w") as file:
        for method, curves in methods.items():
            for seed, curve in enumerate(curves):
                for at in curve:
                    file.write(json.dumps(at | {"method": method, "seed": seed}) + "\n")
    return path


def test_the_first_crossing_is_interpolated():
    curve = [point(0, 0.3), point(10, 0.34), point(20, 0.44), point(30, 0.40)]
    assert first_reach(curve, 0.39, "seconds") == pytest.approx(15)
    assert first_reach(curve, 0.39, "nfe") == pytest.approx(1500)
    assert first_reach(curve, 0.5, "seconds") == math.inf


def test_summary_of_two_methods(tmp_path):
    fast = [[point(0, 0.3), point(10, 0.3 + gain)] for gain in (0.2, 0.22, 0.24)]
    slow = [[point(0, 0.3), point(20, 0.42)]] * 3
    path = write(tmp_path / "results.jsonl", {"slow": slow, "fast": fast})
    first, second = summarise_all(path)
    assert (first.method, first.num_seeds) == ("fast", 3)
    assert first.reward == pytest.approx(0.52)
    assert first.interval == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-3)  # Student's t, two degrees of freedom
    assert first.reach[0.1]["seconds"] == pytest.approx([10 * 0.1 / 0.24, 10 * 0.1 / 0.22, 10 * 0.1 / 0.2])
    assert second.reach[0.2]["seconds"] == [math.inf] * 3
    assert second.seconds_per_iteration["update"] == pytest.approx(0.5)
    text = markdown(path, "fast")
    assert "| fast | 3 | 0.520 ± 0.050 | 0.520 |" in text
    assert "| 5 (4 to 5) |" in text
    assert "| slow | 3 | 0.420 ± 0.000 | 0.420 | 8 | 17 | never | never |" in text

    def ratio(gain):  # of the same time, or the whole of it, to the geometric mean of fast's
        return min(20 * gain / 0.12, 20) / (10 * gain / math.prod((0.2, 0.22, 0.24)) ** (1 / 3))

    row = next(line for line in text.splitlines() if line.startswith("| slow |") and "(" in line and ">" in line)
    cells = [float(cell.strip().lstrip("> ").split()[0]) for cell in row.split("|")[2:-1]]
    assert cells == pytest.approx([ratio(gain) for gain in (0.05, 0.1, 0.15, 0.2)], abs=0.006)
    assert [cell.strip()[0] == ">" for cell in row.split("|")[2:-1]] == [False, False, True, True]
    assert "15 s apart" in text
    assert "over that of" not in markdown(path, "another")


def test_a_target_that_some_seeds_miss(tmp_path):
    curves = [[point(0, 0.3), point(10, end)] for end in (0.4, 0.5, 0.34)]
    assert "| 10 (5 to never, 1 of 3) |" in markdown(write(tmp_path / "results.jsonl", {"m": curves}), "m")


def test_what_a_learned_reward_and_the_verifier_say(tmp_path):
    curve = [point(0, 0.3, trained=0.1), point(10, 0.5, trained=0.2), point(20, 0.36, trained=0.34)]
    text = markdown(write(tmp_path / "results.jsonl", {"m": [curve]}), "m")
    assert "| m | +0.240 | +0.060 | +0.060 | +0.140 |" in text


def test_race_on_a_learned_reward(tmp_path):
    words = "bench --suite smoke --only vgrpo-fast-4-steps --reward sprites_preference --seconds 0.1".split()
    assert main([*words, "--num-prompts", "14", "--num-images", "1", "--output-dir", str(tmp_path)]) == 0
    before, after = read_lines(tmp_path / "results.jsonl")
    assert before["trained"] != after["trained"]
    assert (tmp_path / "summary.md").read_text().startswith("| method | gain of the trained reward")


def test_smoke_suite_races_and_resumes(tmp_path):
    line = f"bench --suite smoke --seconds 1 --eval-seconds 1000 --num-prompts 14 --num-images 2 --output-dir {tmp_path}"
    first = tmp_path / "lanes/mixgrpo-0"
    (first / "checkpoints").mkdir(parents=True)  # as a run leaves it that was stopped before its first line
    (first / "config.yaml").write_text("seed: 0")
    assert main(line.split()) == 0
    records = read_lines(tmp_path / "results.jsonl")
    assert {record["method"] for record in records} == set(SUITES["smoke"])
    assert all(record["strict"] <= record["reward"] + 1e-6 for record in records)
    bases = [record for record in records if record["iteration"] == 0]
    assert {(record["reward"], record["drift"]) for record in bases} == {(bases[0]["reward"], 0.0)}
    assert all(record["drift"] > 0 and record["seconds"] >= 1 for record in records if record["iteration"])
    assert records[0]["diversity"] > 0.1
    for name in ("summary.md", "curves.png", "end.png"):
        assert (tmp_path / name).stat().st_size > 100
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"method": "cut o')
    assert main(line.split()) == 0  # nothing is left to do, so nothing is run again
    assert read_lines(tmp_path / "results.jsonl") == records


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "results.jsonl"
    drop_cut_line(path)
    path.write_text('{"a": 1}\n{"b": 2}\n{"c"')
    drop_cut_line(path)
    assert read_lines(path) == [{"a": 1}, {"b": 2}]


def test_entries_are_chosen_by_name():
    assert list(choose(BenchConfig(suite="smoke", only=("mixgrpo",)))) == ["mixgrpo"]
    with pytest.raises(ValueError, match="--suite smok: did you mean 'smoke'"):
        choose(BenchConfig(suite="smok"))


def test_a_suite_has_its_own_length():
    assert BenchConfig(suite="smoke").budget == Budget(seeds=(0,), seconds=10.0, eval_seconds=5.0, num_prompts=42)
    ablation = BenchConfig(suite="ablation", seconds=5.0).budget
    assert ablation == Budget(seeds=(0, 1, 2, 3, 4), seconds=5.0, eval_seconds=30.0, num_prompts=140)


def test_terms_that_all_have():
    for suite in SUITES.values():
        assert {(entry.precision, entry.monitor) for entry in suite.values()} == {("fp32", ())}
    per_iteration = {entry.rollout.num_prompts * entry.rollout.group_size for entry in PUBLISHED.values()}
    assert per_iteration == {192}
    on_steps = [entry for entry in PUBLISHED.values() if not isinstance(entry.objective, ForwardObjective)]
    assert all(entry.update.keep_old for entry in on_steps)


def test_advantages_as_published():
    found = {name: entry.advantage.std for name, entry in PUBLISHED.items() if entry.advantage.std != "global"}
    of_groups = dict.fromkeys(("mixgrpo", "dancegrpo", "stepwisegrpo", "tpgrpo"), "group")
    assert found == of_groups | dict.fromkeys(("epg", "pepg", "par"), "none")


def test_the_checkpoint_of_the_last_line_is_found_beside_a_newer_one(tmp_path):
    for iteration in (3, 7):
        checkpoint.save({"iteration": iteration}, tmp_path, iteration)
    assert checkpoint.load_newest(tmp_path).state["iteration"] == 7
    assert checkpoint.load(tmp_path, 3).state["iteration"] == 3
    with pytest.raises(FileNotFoundError, match="no checkpoint of iteration 5"):
        checkpoint.load(tmp_path, 5)
