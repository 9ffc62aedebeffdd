"""A real Ray on this machine starts a rollout worker, starts it again when it is killed, and a run is drawn by it.

It takes about 40 s of a CPU: Ray's own processes, and the worker's libraries twice."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest

from vgrpo.commands.drawers import Drawers, take_drawers
from vgrpo.commands.fleet import Fleet, words_of
from vgrpo.commands.main import main
from vgrpo.commands.options import parse
from vgrpo.commands.words import UsageError
from vgrpo.models.settings import MemoryConfig, ModelSettings
from vgrpo.sampling.served.settings import ServeRolloutConfig


@pytest.mark.parametrize("spread", [{}, {"shard": "full", "gather": False}])
def test_the_words_for_a_worker_are_read_as_the_same_model(spread):
    memory = MemoryConfig(vae_slicing=True, weights="bf16")
    settings = ModelSettings(model="x/y", precision="bf16", resolution=512, max_sequence_length=0, compile=True, memory=memory)
    of_the_run = replace(settings, memory=replace(memory, **spread))  # a worker is alone and spreads nothing
    command, model, *words = words_of(of_the_run)
    read = parse(ServeRolloutConfig, ["--model", model, *words], prog="vgrpo serve-rollout MODEL", description="")
    assert command == "serve-rollout"
    assert all(getattr(read, name) == getattr(settings, name) for name in vars(settings))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--ray-workers", "2"], "say where"),
        (["--ray", "local", "--ray-workers", "none"], "give a number of workers"),
        (["--ray", "local", "--rollout-workers", "http://a:1"], "leave one out"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, reason):
    with pytest.raises(UsageError, match=reason):
        take_drawers(words)


@pytest.mark.parametrize(
    ("words", "rest", "cluster"),
    [
        (["--ray"], [], "local"),
        (["--ray", "--seed", "1"], ["--seed", "1"], "local"),
        (["--seed", "1", "--ray", "head:6379"], ["--seed", "1"], "head:6379"),
        (["--seed", "1"], ["--seed", "1"], None),
    ],
)
def test_a_cluster_without_an_address_is_this_machine(words, rest, cluster):
    assert take_drawers(words) == (rest, Drawers([], cluster, 1))


def test_a_worker_of_a_cluster_is_started_again_and_draws_for_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # of a cluster that is not asked for
    monkeypatch.setenv("VGRPO_TOKEN", "a-word-of-this-test")
    said = []
    wait = Fleet.wait

    def killed_once(fleet):
        """The first worker dies before the run begins."""
        wait(fleet)
        (first,) = fleet.addresses
        os.kill(fleet.ray.get(fleet.keepers[0].pid.remote()), signal.SIGKILL)
        until = time.monotonic() + 100
        while [first] == fleet.addresses:
            assert time.monotonic() < until, said
            time.sleep(0.1)
        said.append((first, *fleet.addresses))
        return fleet.addresses

    monkeypatch.setattr(Fleet, "wait", killed_once)
    options = "--num-iterations 2 --rollout.num-prompts 4 --rollout.group-size 2 --rollout.num-steps 2 --rollout.batch-size 2 "
    options += "--eval.num-prompts 0 --eval.num-sample-prompts 1 --eval.num-steps 2 --precision fp32 --device cpu"
    status = main(["train", "sprites", "--output-dir", str(tmp_path / "run"), "--quiet", "--ray", *options.split()])
    assert status == 0
    ((first, second),) = said
    assert first != second
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["rollout/own"] for line in lines] == [0, 0]
