"""A GPU that is too small is said to be, with the plan that helps."""

import pytest
import torch

import vgrpo.models.loading
from vgrpo.commands.main import main
from vgrpo.models.adapters.sd3 import SD3Policy

QUICK = "--num-iterations 1 --rollout.num-prompts 4 --rollout.group-size 4 --rollout.num-steps 3 --eval.num-prompts 0"
QUICK += " --eval.num-steps 2 --eval.num-sample-prompts 2"
SAID_BY_TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of which 1.2 GiB is free."
)


def full(*_, **__):
    raise torch.OutOfMemoryError(SAID_BY_TORCH)


def at_call(number, own):
    """A function that runs out of memory at its call with this number."""
    calls = []

    def call(*args, **kwargs):
        calls.append(1)
        return full() if len(calls) >= number else own(*args, **kwargs)

    return call


def with_gradient(own):
    return lambda *args: full() if torch.is_grad_enabled() else own(*args)


PREDICT = SD3Policy.predict  # two calls try the rewards, two draw the samples, then the rollout begins


@pytest.mark.parametrize(
    ("place", "name", "replacement", "phase"),
    [
        (vgrpo.models.loading, "load_pipeline", full, "loading the model"),
        (SD3Policy, "predict", full, "trying the rewards on two images"),
        (SD3Policy, "predict", at_call(3, PREDICT), "drawing sample pictures"),
        (SD3Policy, "predict", at_call(5, PREDICT), "drawing images to train on"),
        (SD3Policy, "predict", with_gradient(PREDICT), "updating the model"),
    ],
)
def test_the_phase_the_gpu_and_the_plan_are_named(monkeypatch, capsys, tmp_path, place, name, replacement, phase):
    monkeypatch.setattr(place, name, replacement)
    line = f"train sprites --output-dir {tmp_path}/run {QUICK}"
    assert main(line.split()) == 1
    said = capsys.readouterr().err
    assert f"vgrpo train: the GPU's memory of 23.64GB ran out while {phase}" in said
    assert f"vgrpo plan sprites --output-dir {tmp_path}/run {QUICK} --gpu-memory 23.64GB" in said
    assert "Traceback" not in said


def test_the_plan_that_is_named_is_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(vgrpo.models.loading, "load_pipeline", full)
    words = [*QUICK.split(), "--rollout-workers", "http://127.0.0.1:9"]
    main(["train", "sprites", "--output-dir", str(tmp_path / "run"), *words])
    command = capsys.readouterr().err.splitlines()[-1].split()
    assert main(command[1:]) == 0
    assert "fits into 23.64GB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        ("sample --prompts {0}/p.txt --output-dir {0}/out --num-steps 2", "drawing images"),
        ("eval --prompts {0}/p.txt --output-dir {0}/out --eval.num-steps 2", "drawing and judging images"),
        ("diagnose --prompts {0}/p.txt --output-dir {0}/out --num-steps 2", "measuring"),
    ],
)
def test_what_helps_without_training_is_named(monkeypatch, capsys, tmp_path, command, phase):
    (tmp_path / "p.txt").write_text("a red heart\n")
    monkeypatch.setattr(SD3Policy, "predict", full)
    assert main(command.format(tmp_path).split()) == 1
    said = capsys.readouterr().err
    assert f"vgrpo {command.split()[0]}: the GPU's memory of 23.64GB ran out while {phase}" in said
    assert "--memory.offload-encoders" in said
    assert "vgrpo plan" in said
