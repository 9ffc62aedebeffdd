"""A cluster of Ray on two nodes, as network namespaces of this machine: the cable is cut in the middle of a run.

VGRPO_NEEDS_NETNS=1, as in CI, forbids to leave this test out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers.nodes import ADDRESSES, Nodes, why_not

from vgrpo.commands.fleet import Fleet
from vgrpo.commands.main import main
from vgrpo.training import loop

REASON = why_not()
pytestmark = pytest.mark.skipif(
    bool(REASON) and "VGRPO_NEEDS_NETNS" not in os.environ, reason=f"no network namespaces here: {REASON}"
)
PORT = 6379
SECRETS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a-word-of-this-test-for-all-of-ray",
    "VGRPO_TOKEN": "a-word-of-this-test",
}
TRAIN = "train sprites --num-iterations 3 --rollout.num-prompts 4 --rollout.group-size 2 --rollout.num-steps 2 "
TRAIN += "--rollout.batch-size 2 --eval.num-prompts 0 --eval.num-sample-prompts 1 --eval.num-steps 2 --precision fp32 "
TRAIN += f"--device cpu --quiet --ray {ADDRESSES[0]}:{PORT} --ray-workers 2"


def wait_until(true, what, seconds=120):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"no {what}"
        time.sleep(0.1)


def ray_node(index, folder):
    """What `ray start` starts on a node, until it is killed."""
    # A node without a sign of life counts as dead after three seconds, and not after half a minute.
    quick = {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    place = (
        ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
        if index == 0
        else [f"--address={ADDRESSES[0]}:{PORT}"]
    )
    words = [f"--node-ip-address={ADDRESSES[index]}", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
    environment = os.environ | SECRETS | quick | {"RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *place, *words, "--block"], env=environment, check=False
    )


def train_on(folder, words):
    """The run, on the first node. It waits for both nodes' workers, for the cut, and for what Ray does about it."""
    torch.set_num_threads(1)
    os.environ |= SECRETS
    fleets, wait, iterate = [], Fleet.wait, loop.iterate

    def on_both(fleet):
        wait(fleet)
        fleets.append(fleet)
        wait_until(lambda: len(hosts(fleet)) == 2, "worker on each node")
        assert set(hosts(fleet)) == set(ADDRESSES), fleet.addresses
        return fleet.addresses

    def watched(run):
        if run.iteration == 1:
            (folder / "drawing").touch()
            wait_until(lambda: (folder / "cut").exists(), "cut")
        if run.iteration == 2:
            wait_until(lambda: hosts(fleets[0]) == [ADDRESSES[0]] * 2, "second worker on the first node")
        return iterate(run)

    Fleet.wait, loop.iterate = on_both, watched
    assert main([*words, "--output-dir", str(folder / "run")]) == 0
    (folder / "done").touch()


def stands(log):
    return log.exists() and "Ray runtime started" in log.read_text()


def hosts(fleet):
    return [address.removeprefix("http://").rpartition(":")[0] for address in fleet.addresses]


def test_a_cut_cable_costs_no_image_and_the_worker_behind_it_comes_back_on_another_node(tmp_path_factory):
    assert not REASON, REASON
    folder = tmp_path_factory.mktemp("ray")
    short = Path(f"/tmp/vgrpo-ray-{os.getpid()}")  # paths of sockets are at most 107 letters long
    with Nodes() as nodes:
        started = [nodes.start(index, folder / f"ray-{index}.log", ray_node, index, short) for index in range(2)]
        try:
            wait_until(lambda: all(stands(folder / f"ray-{index}.log") for index in range(2)), "Ray on both nodes")
            run = nodes.start(0, folder / "run.log", train_on, folder, TRAIN.split())
            started.append(run)
            wait_until(lambda: (folder / "drawing").exists() or run.exitcode is not None, "second iteration", 200)
            nodes.cut()
            (folder / "cut").touch()
            run.join(200)
            assert (folder / "done").exists(), (folder / "run.log").read_text()[-3000:]
        finally:
            for process in started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            shutil.rmtree(short, ignore_errors=True)
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["reward/failed"] for line in lines] == [0, 0, 0]
    assert lines[1]["rollout/again"] + lines[1]["rollout/own"] > 0
    assert lines[2]["rollout/own"] == 0
