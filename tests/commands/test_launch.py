"""Commands in several processes: started by torch's launcher, and each with its share."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from vgrpo.commands import eval as eval_command
from vgrpo.commands.launch import launch, number_of_processes
from vgrpo.commands.main import main
from vgrpo.support.interrupts import SIGNALS
from vgrpo.support.launched import launched

TRAIN = "train sprites --num-iterations 1 --precision fp32 --device cpu --eval.num-prompts 0 --eval.num-sample-prompts 1"
TRAIN += " --rollout.num-prompts 5 --rollout.group-size 4 --rollout.batch-size 4 --rollout.num-steps 4 --eval.num-steps 2"
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2"


@pytest.fixture
def own_signals(monkeypatch):
    """The launcher is a program of its own, and leaves its handlers and settings where it ran."""
    monkeypatch.setenv("LOGLEVEL", "CRITICAL")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30")
    monkeypatch.setenv("PET_SIGNALS_TO_HANDLE", "SIGTERM")
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM")
    numbers = (*SIGNALS, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def in_place(monkeypatch, rank, size):
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", size)):
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("own_signals")
def test_torchs_launcher_runs_the_command_and_gives_its_status(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typing.py").write_text("raise SystemExit('this folder comes first')")
    assert launch(2, "--version", []) == 0
    assert capfd.readouterr().out.count("vgrpo ") == 2
    assert launch(2, "nonsense", []) == 2


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(("given", "expected"), [(None, "3"), ("1", "1")])
def test_without_a_gpu_processes_share_the_threads(given, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    assert launch(2, "--version", []) == 0
    assert os.environ["OMP_NUM_THREADS"] == expected


@pytest.mark.parametrize("count", ["0", "-1", "two", "2000"])
def test_a_number_of_gpus_that_is_none_is_refused(count, capsys):
    assert main(["train", "sprites", "--gpus", count]) == 2
    assert f"--gpus {count}: give a number of GPUs, or auto for all there are" in capsys.readouterr().err


@pytest.mark.parametrize(("gpus", "threads", "expected"), [(3, 2, 3), (None, 2, 2), (None, 16, 4), (None, 1, 1)])
def test_auto_is_all_gpus_or_the_cores_of_the_cpu(gpus, threads, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus is not None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus or 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert number_of_processes("auto") == expected


def test_launched_processes_start_no_others(monkeypatch, capsys):
    in_place(monkeypatch, 1, 2)
    assert main(["train", "sprites", "--gpus", "2"]) == 2
    assert "was started with others already" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "size"), [(2, 2), ("a", 2), (0, "")])
def test_a_place_that_is_none_is_refused(rank, size, monkeypatch):
    in_place(monkeypatch, rank, size)
    with pytest.raises(ValueError, match="the rank below the size"):
        launched()


def test_pictures_are_shared_out(tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("a heart\ntwo stars\na key\n")
    words = f"--prompts {tmp_path}/prompts.txt --num-images 1 --num-steps 1".split()
    for rank in range(2):
        in_place(monkeypatch, rank, 2)
        assert main(["sample", *words, "--output-dir", str(tmp_path / str(rank))]) == 0
    names = [sorted(path.name for path in (tmp_path / str(rank)).iterdir()) for rank in range(2)]
    assert names == [["00000_00.png", "00002_00.png", "prompts.jsonl"], ["00001_00.png"]]


def test_an_evaluation_is_split_like_its_shards(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(eval_command, "evaluate", jobs.append)
    in_place(monkeypatch, 1, 4)
    assert main(["eval", "--output-dir", str(tmp_path)]) == 0
    assert jobs[0].shard == "1/4"
    assert main(["eval", "--output-dir", str(tmp_path), "--shard", "1/2"]) == 2


def only_run(folder):
    """What the one run in a folder measured of its first images, and the kept groups, which are those of process 0."""
    (run,) = (folder / "runs").iterdir()
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    assert (run / "lora/pytorch_lora_weights.safetensors").stat().st_size > 0
    measured = {name: value for name, value in json.loads(line).items() if name.startswith(("reward/", "monitor/", "divers"))}
    groups = json.loads((run / "groups/000000.json").read_text())["groups"]
    return measured, {group["group"]: group for group in groups}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*TRAIN.split(), "--quiet"]) == 0
    return only_run(folder)


@pytest.mark.parametrize("words", [f"-m vgrpo {TRAIN} --gpus 2", f"{TORCHRUN} -m vgrpo {TRAIN}"])
def test_two_processes_train_one_run_that_is_judged_as_in_one(words, alone, tmp_path):
    done = subprocess.run([sys.executable, *words.split()], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("iteration 1/1") == 1
    measured, groups = only_run(tmp_path)
    assert measured == alone[0]
    assert measured["reward/std"] > 0
    assert (set(groups), set(alone[1])) == ({0, 2, 4}, set(range(5)))
    assert groups == {number: alone[1][number] for number in groups}
