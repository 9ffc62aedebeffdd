"""A curriculum's settings: from YAML, by hand, from the command line."""

import dataclasses

import pytest
from helpers.curricula import COLUMNS, two_stages

from vgrpo import Stage, train_curriculum
from vgrpo.commands.main import main
from vgrpo.models.loading import load_pipeline
from vgrpo.support.lock import LockedError, RunLock
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.settings.config_files import load_yaml, save_yaml, to_dict


def test_a_curriculum_survives_yaml(tmp_path):
    curriculum = two_stages(tmp_path / "runs")
    save_yaml(curriculum, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml") == dataclasses.replace(curriculum, output_dir=None)
    assert set(to_dict(curriculum)["stages"][1]) == {"name", "reward", "monitor", "num_iterations", "objective", "update"}


def test_a_curriculum_written_by_hand(tmp_path):
    (tmp_path / "two.yaml").write_text(
        "rollout: {num_prompts: 3}\nstages: [{name: a, reward: [jpeg_compressibility]}, {name: b, rollout: {num_steps: 4}}]\n"
    )
    a, b = (stage.config for stage in load_yaml(tmp_path / "two.yaml").stages)
    assert (a.reward, b.reward) == (("jpeg_compressibility",), ("sprites",))
    assert (a.rollout, b.rollout) == (RolloutConfig(num_prompts=3), RolloutConfig(num_steps=4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: []", "stages is empty"),
        ("stages: {}", "must be a list"),
        ("stages: [{reward: [sprites]}]", "stage 1: must be a mapping of settings with a `name`"),
        ("stages: [{name: a/b}]", "stage 1 is called 'a/b'"),
        ("stages: [{name: a}, {name: b, lora: {rank: 4}}]", "stage 2: `lora` differs"),
        ("stages: [{name: a, finetune: full}]", "finetune=full"),
        ("stages: [{name: a, rewad: [sprites]}]", "did you mean reward"),
    ],
)
def test_a_bad_curriculum_is_refused(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_yaml(tmp_path / "run.yaml")


def test_a_later_stages_mistakes_are_named_before_the_first(tmp_path):
    curriculum = two_stages(tmp_path / "run")
    first, second = curriculum.stages
    for changes, message in (({"prompts": "none.txt"}, "no prompt file none.txt"), ({"reward": ("sprite",)}, "unknown reward")):
        broken = Stage(second.name, dataclasses.replace(second.config, **changes))
        with pytest.raises((ValueError, OSError), match=message):
            train_curriculum(
                dataclasses.replace(curriculum, stages=(first, broken)), pipeline=load_pipeline("sprites"), quiet=True
            )
    assert not (tmp_path / "run").exists()


def test_the_command_line_runs_and_resumes_a_curriculum(tmp_path, capsys):
    save_yaml(two_stages(None), tmp_path / "two.yaml")
    line = f"train {tmp_path}/two.yaml --output-dir {tmp_path}/run --seed 3 --stage-2.num-iterations 1 --rollout.num-prompts 2"
    assert main([*line.split(), "--resume"]) == 0  # there is nothing yet, so it begins
    configs = [load_yaml(tmp_path / "run" / name / "config.yaml") for name in COLUMNS[1:]]
    assert [(config.num_iterations, config.seed) for config in configs] == [(2, 6), (1, 7)]
    table = capsys.readouterr().out
    assert "jpeg_compressibility" in table
    assert "2 sprites" in table
    assert main([*f"train {tmp_path}/run/config.yaml --resume".split()]) == 0
    loaded = load_pipeline("sprites")
    loaded.load_lora_weights(tmp_path / "run" / COLUMNS[2] / "lora")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--stage-3.seed 1", "there are stages 1 to 2"),
        ("--stage-2.lora.rank 2", "stage 2: `lora` differs"),
        ("--stage-2.output-dir elsewhere", "a stage's folder is inside"),
    ],
)
def test_mistakes_on_the_command_line_are_named(tmp_path, capsys, options, message):
    save_yaml(two_stages(None), tmp_path / "two.yaml")
    assert main(["train", f"{tmp_path}/two.yaml", *options.format(tmp=tmp_path).split()]) in (1, 2)
    assert message in capsys.readouterr().err


def test_two_processes_are_not_at_work_in_one_curriculum(tmp_path):
    save_yaml(two_stages(None), tmp_path / "config.yaml")
    lock = RunLock(tmp_path)
    lock.take()
    try:
        with pytest.raises(LockedError, match="is in use"):
            train_curriculum(two_stages(tmp_path), resume=True)
    finally:
        lock.release()
