"""Runs in stages: exact hand-over of weights, resume, the table of scores."""

import dataclasses
import json
import signal
import subprocess
import sys

import pytest
import torch
from helpers.curricula import COLUMNS, EVAL, same, two_stages, velocity, weights_of

from vgrpo import train, train_curriculum
from vgrpo.commands.main import main
from vgrpo.evaluation.core import evaluate
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.prompts.sources import evaluation_prompts
from vgrpo.rewards.panel import Panel
from vgrpo.rewards.registry import load_reward
from vgrpo.training.settings.config_files import load_yaml, save_yaml
from vgrpo.training.start import Given, start_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A curriculum run straight through."""
    return train_curriculum(two_stages(tmp_path_factory.mktemp("runs") / "all"), quiet=True)


def test_each_stage_is_a_run_that_starts_where_the_one_before_ended(finished):
    folder = finished.output_dir
    for name in COLUMNS[1:]:
        names = {path.name for path in (folder / name).iterdir()}
        assert names >= {"config.yaml", "metrics.jsonl", "samples", "lora", "checkpoints", "eval.json", "report.html"}
    before, after = (json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in COLUMNS[1:])
    assert (before["iteration"], after["iteration"]) == (1, 2)
    assert "reward/sprites/mean" in after
    saved = load_yaml(folder / COLUMNS[2] / "config.yaml")
    assert saved.lora.init == folder / COLUMNS[1] / "lora"
    second = dataclasses.replace(saved, output_dir=folder.parent / "again")
    start = start_run(second, Given(pipeline=load_pipeline("sprites")))
    first_alone = load_pipeline("sprites")
    first_alone.load_lora_weights(folder / COLUMNS[1] / "lora")
    assert torch.equal(velocity(start.policy.pipeline), velocity(first_alone))
    alone = train(
        dataclasses.replace(second, output_dir=folder.parent / "alone"), pipeline=load_pipeline("sprites"), quiet=True
    )
    assert same(weights_of(alone.pipeline), weights_of(finished.pipeline))


def test_stages_on_the_same_prompts_draw_others(finished):
    configs = [load_yaml(finished.output_dir / name / "config.yaml") for name in COLUMNS[1:]]
    assert [config.seed for config in configs] == [0, 1]


def test_the_table_holds_every_reward_and_monitor_before_and_after_each_stage(finished):
    content = json.loads((finished.output_dir / "curriculum.json").read_text())
    assert content == finished.evaluation
    assert content["columns"] == COLUMNS
    assert [(row["reward"], row["prompts"]) for row in content["rows"]] == [
        ("jpeg_compressibility", "sprites"),
        ("sprites", "sprites"),
        ("sprites_strict", "sprites"),
    ]
    pipelines = [load_pipeline("sprites") for _ in COLUMNS]
    for pipeline, name in zip(pipelines[1:], COLUMNS[1:], strict=True):
        pipeline.load_lora_weights(finished.output_dir / name / "lora")
    prompts = evaluation_prompts("sprites", EVAL.num_prompts)
    for row in content["rows"]:
        for column, pipeline in zip(COLUMNS, pipelines, strict=True):
            policy = make_policy(pipeline, max_sequence_length=0)
            scores = evaluate(policy, prompts, Panel.of([load_reward(row["reward"])]), EVAL)
            assert row["scores"][column] == pytest.approx(scores["reward"], abs=2e-4)
    columns = zip(*(row["scores"].values() for row in content["rows"]), strict=True)
    assert len(set(columns)) == 3  # of one reward alone two may come out alike


def interrupt(monkeypatch, seed, iteration):
    """Ctrl-C when the stage with this seed reaches an iteration."""
    from vgrpo.training import loop

    iterate = loop.iterate

    def interrupted(run):
        if (run.config.seed, run.iteration) == (seed, iteration):
            raise KeyboardInterrupt
        return iterate(run)

    monkeypatch.setattr(loop, "iterate", interrupted)


@pytest.mark.parametrize(("stage", "iteration"), [(0, 1), (1, 2)])
def test_resume_is_bitwise_equal(tmp_path, monkeypatch, capsys, finished, stage, iteration):
    curriculum = two_stages(tmp_path / "broken")
    interrupt(monkeypatch, stage, iteration)
    with pytest.raises(KeyboardInterrupt):
        train_curriculum(curriculum, pipeline=load_pipeline("sprites"))
    assert capsys.readouterr().out.endswith(f"  vgrpo train {tmp_path}/broken/config.yaml --resume\n")
    monkeypatch.undo()
    assert len(json.loads((tmp_path / "broken/curriculum.json").read_text())["columns"]) == stage + 1
    resumed = train_curriculum(curriculum, pipeline=load_pipeline("sprites"), resume=True, quiet=True)
    assert same(weights_of(resumed.pipeline), weights_of(finished.pipeline))
    assert resumed.evaluation == finished.evaluation


KILLED = """
import os, signal, sys, torch
from vgrpo.training import loop
from vgrpo.commands.main import main

iterate = loop.iterate

def killed(run):
    if (run.config.seed, run.iteration) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return iterate(run)

loop.iterate = killed
torch.set_num_threads(int(sys.argv[1]))
main(["train", sys.argv[2], "--output-dir", sys.argv[3]])
"""


def test_resume_after_a_kill_in_the_second_stage_is_bitwise_equal(tmp_path, finished):
    save_yaml(two_stages(None), tmp_path / "two.yaml")
    threads = str(torch.get_num_threads())
    words = [sys.executable, "-c", KILLED, threads, str(tmp_path / "two.yaml"), str(tmp_path / "run")]
    assert subprocess.run(words, check=False, capture_output=True).returncode == -signal.SIGKILL
    # A thread writes a checkpoint, then deletes the third newest: the kill came while it wrote the one of iteration 2, between
    # the two, or when all was done.
    kept = [path.name for path in sorted((tmp_path / "run" / COLUMNS[2] / "checkpoints").glob("iteration-*"))]
    names = [f"iteration-{number:06d}" for number in range(3)]
    assert kept in (names[:2], names, names[1:])
    resumed = train_curriculum(two_stages(tmp_path / "run"), resume=True, quiet=True)
    assert same(weights_of(resumed.pipeline), weights_of(finished.pipeline))
    assert resumed.evaluation == finished.evaluation


def test_a_stage_killed_before_its_first_checkpoint_starts_again(tmp_path, monkeypatch, finished):
    from vgrpo.training import loop

    def dies(run):
        raise OSError("killed")  # nothing is saved

    monkeypatch.setattr(loop, "iterate", dies)
    with pytest.raises(OSError, match="killed"):
        train_curriculum(two_stages(tmp_path / "broken"), pipeline=load_pipeline("sprites"), quiet=True)
    monkeypatch.undo()
    resumed = train_curriculum(two_stages(tmp_path / "broken"), pipeline=load_pipeline("sprites"), resume=True, quiet=True)
    assert same(weights_of(resumed.pipeline), weights_of(finished.pipeline))


def test_a_finished_curriculum_resumed_changes_nothing(finished):
    again = train_curriculum(two_stages(finished.output_dir), pipeline=load_pipeline("sprites"), resume=True, quiet=True)
    assert same(weights_of(again.pipeline), weights_of(finished.pipeline))
    assert again.evaluation == finished.evaluation


def test_the_sprites_curriculum_in_miniature(tmp_path):
    sizes = "--num-iterations 1 --rollout.num-prompts 4 --rollout.group-size 4 --rollout.num-steps 4 --eval.num-prompts 7"
    line = f"train sprites-curriculum --output-dir {tmp_path}/run {sizes} --eval.num-images 1 --eval.num-steps 4"
    assert main(line.split()) == 0
    content = json.loads((tmp_path / "run/curriculum.json").read_text())
    stages = ["preference", "verifier", "preference", "verifier", "ocr"]
    assert content["columns"] == ["base", *(f"stage-{number}-{name}" for number, name in enumerate(stages, 1))]
    assert [(row["reward"], row["prompts"]) for row in content["rows"]] == [
        ("sprites_preference", "sprites"),
        ("sprites", "sprites"),
        ("sprites_strict", "sprites"),
        ("ocr_ctc", "sprites:text"),
        ("ocr_tesseract", "sprites:text"),
    ]
    assert all(len(row["scores"]) == 6 and 0 <= min(row["scores"].values()) <= 1 for row in content["rows"])
    words = [json.loads(line) for line in (tmp_path / "run/stage-5-ocr/metrics.jsonl").read_text().splitlines()]
    assert 0 < words[0]["reward/mean"] < 1
    assert "monitor/ocr_tesseract" in words[0]
