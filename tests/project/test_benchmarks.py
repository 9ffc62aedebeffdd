"""The benchmarks run, here on the bundled model."""

import json
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
