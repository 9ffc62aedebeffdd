"""The race, on the bundled model in its shortest form, and the summary's arithmetic."""

import json
import math
from dataclasses import replace

import pytest

from vgrpo.analysis.race.config import BenchConfig, Budget
from vgrpo.analysis.race.suites import METHODS
from vgrpo.analysis.race.summary import first_reach, markdown, summarise_all
from vgrpo.commands.bench import choose
from vgrpo.commands.main import main
from vgrpo.training import checkpoint


def point(seconds, strict, **more):
    phases = {"rollout": seconds / 2, "reward": 0.0, "update": seconds / 2}
    rest = {"iteration": int(seconds), "nfe": int(seconds * 100), "steps": int(seconds), "reward": strict, "phases": phases}
    return {"seconds": seconds, "strict": strict, "diversity": 1.0, "drift": seconds / 100, **rest, **more}


def test_the_first_crossing_is_interpolated():
    curve = [point(0, 0.3), point(10, 0.34), point(20, 0.44), point(30, 0.40)]
    assert first_reach(curve, 0.39, "seconds") == pytest.approx(15)
    assert first_reach(curve, 0.39, "nfe") == pytest.approx(1500)
    assert first_reach(curve, 0.5, "seconds") == math.inf


def test_summary_of_two_methods(tmp_path):
    path = tmp_path / "results.jsonl"
    fast = {seed: [point(0, 0.3), point(10, 0.3 + gain)] for seed, gain in enumerate((0.2, 0.22, 0.24))}
    slow = {seed: [point(0, 0.3), point(20, 0.42)] for seed in range(3)}
    with path.open("w") as file:
        for method, seeds in (("slow", slow), ("fast", fast)):
            for seed, curve in seeds.items():
                for at in curve:
                    file.write(json.dumps(at | {"method": method, "seed": seed}) + "\n")
    first, second = summarise_all(path)
    assert (first.method, first.num_seeds) == ("fast", 3)
    assert first.final == pytest.approx(0.52)
    assert first.interval == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-3)  # Student's t, two degrees of freedom
    assert first.reach[0.1]["seconds"] == pytest.approx([10 * 0.1 / 0.24, 10 * 0.1 / 0.22, 10 * 0.1 / 0.2])
    assert second.reach[0.2]["seconds"] == [math.inf] * 3
    assert second.seconds_per_iteration["update"] == pytest.approx(0.5)
    text = markdown(path)
    assert "| fast | 3 | 0.520 ± 0.050 | 0.520 | 0.520 |" in text
    assert "| 5 (4 to 5) |" in text
    assert "| 9 (8 to 10) |" in text
    assert "| slow | 3 | 0.420 ± 0.000 | 0.420 | 0.420 | 8 | 17 | never | never |" in text
    assert text.endswith("between evaluations\n15 s apart.\n")


def test_a_target_that_some_seeds_miss(tmp_path):
    path = tmp_path / "results.jsonl"
    ends = [(0, 0.4), (1, 0.5), (2, 0.34)]
    lines = [at | {"method": "m", "seed": seed} for seed, end in ends for at in (point(0, 0.3), point(10, end))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "| 10 (5 to never) |" in markdown(path)


def test_smoke_suite_races_and_resumes(tmp_path):
    line = f"bench --suite smoke --seconds 2 --eval-seconds 1000 --num-prompts 14 --num-images 2 --output-dir {tmp_path}"
    (tmp_path / "lanes/vgrpo-0/checkpoints").mkdir(parents=True)  # as a run leaves it that was stopped before its first line
    (tmp_path / "lanes/vgrpo-0/config.yaml").write_text("seed: 0")
    assert main(line.split()) == 0
    records = [json.loads(entry) for entry in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {record["method"] for record in records} == {"vgrpo", "mixgrpo", "diffusionnft"}
    assert all(record["strict"] <= record["reward"] + 1e-6 for record in records)
    assert records[0]["drift"] == pytest.approx(0, abs=1e-3)  # the base itself
    assert records[0]["diversity"] > 0.1
    for name in ("summary.md", "curves.png", "end.png"):
        assert (tmp_path / name).stat().st_size > 100
    assert main(line.split()) == 0  # nothing is left to do, so nothing is run again
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == len(records)


def test_a_grid_of_learning_rates_makes_entries():
    entries = choose(BenchConfig(suite="smoke", only=("vgrpo",), lr=(1e-4, 3e-4)))
    assert list(entries) == ["vgrpo lr 0.0001", "vgrpo lr 0.0003"]
    assert entries["vgrpo lr 0.0001"].update.lr == 1e-4
    with pytest.raises(ValueError, match="--suite smok: did you mean 'smoke'"):
        choose(BenchConfig(suite="smok"))


def test_knobs_change_one_setting_each():
    entries = choose(BenchConfig(only=("awm",), knobs=True))
    chosen, clipped = METHODS["awm"], entries["awm max_grad_norm 1.0"]
    assert entries["awm"] == chosen
    assert clipped == replace(chosen, update=replace(chosen.update, max_grad_norm=1.0))
    unshifted = entries["awm shift 1.0"]
    assert unshifted == replace(chosen, objective=replace(chosen.objective, shift=1.0))


def test_a_suite_has_its_own_length():
    assert BenchConfig(suite="smoke").budget == Budget(seeds=(0,), seconds=10.0, eval_seconds=5.0, num_prompts=42)
    assert BenchConfig(suite="ablation", seconds=5.0).budget == Budget(seconds=5.0, eval_seconds=30.0, num_prompts=140)


def test_the_checkpoint_of_the_last_line_is_found_beside_a_newer_one(tmp_path):
    for iteration in (3, 7):
        checkpoint.save({"iteration": iteration}, tmp_path, iteration)
    assert checkpoint.load_newest(tmp_path).state["iteration"] == 7
    assert checkpoint.load(tmp_path, 3).state["iteration"] == 3
    with pytest.raises(FileNotFoundError, match="no checkpoint of iteration 5"):
        checkpoint.load(tmp_path, 5)
