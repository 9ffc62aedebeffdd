"""The benchmarks run, here on the bundled model."""

import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_demo_benchmark_measures_and_reads_what_is_finished(tmp_path, monkeypatch, capsys):
    small = "--seeds 3 --update.lr 2e-3 --num-iterations 1 --rollout.num-prompts 4 --rollout.group-size 4 --rollout.num-steps 2"
    small += f" --eval.num-prompts 7 --eval.num-images 1 --eval.num-steps 2 --output-dir {tmp_path}"
    monkeypatch.setattr(sys, "argv", ["demo.py", *small.split()])
    for _ in range(2):
        runpy.run_path(str(ROOT / "benchmarks/demo.py"), run_name="__main__")
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    assert first["seed"] == 3
    assert 0 < first["training_seconds"] < first["seconds"]
    assert first["lift"] == pytest.approx(first["strict"][1] - first["strict"][0], abs=1e-4)
    assert first["ghosts"][0] > 0
    assert {**second, "seconds": 0} == {**first, "seconds": 0}


def test_the_gpu_benchmark_measures(tmp_path, monkeypatch):
    output = tmp_path / "gpu.jsonl"
    small = "--steps 2 --rollout-batch 4 --update-images 4 --micro-batch 2 --repeats 1 --max-sequence-length 10"
    small = [*small.split(), "--peak", "1"]
    for finetune in ("lora", "full"):
        command = ["gpu.py", "--model", "sprites", "--device", "cpu", "--finetune", finetune, *small, "--output", str(output)]
        monkeypatch.setattr(sys, "argv", command)
        runpy.run_path(str(ROOT / "benchmarks/gpu.py"), run_name="__main__")
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["finetune"] for line in lines] == ["lora", "full"]
    for line in lines:
        assert line["rollout_images_per_second"] > 0
        assert 0 < line["tflops"]["update"] < 10
