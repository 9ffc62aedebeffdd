"""A real Ray on this machine starts what draws and judges for a run, and starts it again when it is killed.

It takes half a minute of a CPU: Ray's own processes, and the libraries of each service."""

import json
import os
import signal
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from vgrpo.commands.elsewhere import Elsewhere, take_elsewhere, words_of
from vgrpo.commands.fleet import Fleet
from vgrpo.commands.main import main
from vgrpo.commands.options import parse
from vgrpo.commands.words import UsageError
from vgrpo.models.settings import MemoryConfig, ModelSettings
from vgrpo.rewards.served.remote import Remote
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
        take_elsewhere(words)


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
    assert take_elsewhere(words) == (rest, Elsewhere([], cluster, 1))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ray", "--ray-rewards", "3"], Elsewhere([], "local", 1, 3)),
        (["--ray", "head:1", "--ray-rewards", "1", "--ray-workers", "0"], Elsewhere([], "head:1", 0, 1)),
    ],
)
def test_rewards_may_be_served_with_and_without_workers_that_draw(words, expected):
    assert take_elsewhere(words) == ([], expected)


def test_a_server_of_a_cluster_is_started_again_and_a_run_is_what_it_is_without(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # of a cluster that is not asked for
    monkeypatch.setenv("VGRPO_TOKEN", "a-word-of-this-test")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def picky(images, prompts):\n"
        "    scores = images.mean((1, 2, 3))\n"
        "    scores[[len(prompt.text) % 2 == 1 for prompt in prompts]] = float('nan')\n"
        "    return scores\n"
    )
    options = "--num-iterations 2 --rollout.num-prompts 4 --rollout.group-size 2 --rollout.num-steps 2 --rollout.batch-size 2 "
    options += "--eval.num-prompts 0 --eval.num-sample-prompts 1 --eval.num-steps 2 --precision fp32 --device cpu --quiet"
    options += " --reward sprites mine:picky"
    fleets, wait, call, dead = [], Fleet.wait, Remote.__call__, []

    def noted(fleet):
        fleets.append(fleet)
        return wait(fleet)

    def killed_in_the_run(remote, images, prompts):
        """The server of the user's own reward dies when it is first asked. It is asked again where it comes back."""
        if remote.__name__ == "picky" and not dead:
            (fleet,) = (each for each in fleets if "picky" in each.what)
            dead.extend(fleet.addresses)
            os.kill(fleet.ray.get(fleet.keepers[0].pid.remote()), signal.SIGKILL)
        return call(remote, images, prompts)

    monkeypatch.setattr(Fleet, "wait", noted)
    monkeypatch.setattr(Remote, "__call__", killed_in_the_run)
    assert main(["train", "sprites", "--output-dir", "served", "--ray", "--ray-rewards", "1", *options.split()]) == 0
    (judges,) = (fleet for fleet in fleets if "picky" in fleet.what)
    assert judges.addresses not in ([], dead)  # the second one is elsewhere
    assert main(["train", "sprites", "--output-dir", "alone", *options.split()]) == 0
    served, alone = (
        [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()] for name in ("served", "alone")
    )
    assert [line["rollout/own"] for line in served] == [0, 0]
    names = [name for name in alone[0] if name.startswith("reward/") or name.startswith("reward_")]
    assert names
    for there, here in zip(served, alone, strict=True):
        # Images go to a server as bytes, as into a file.
        assert {name: there[name] for name in names} == pytest.approx({name: here[name] for name in names}, abs=1e-4)
    assert max(line["reward/picky/abstained"] for line in served) > 0
    for fleet in fleets:
        for address in fleet.addresses:
            with pytest.raises(OSError):  # nobody is left there
                urllib.request.urlopen(address, timeout=2)
