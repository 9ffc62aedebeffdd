"""Two nodes, as network namespaces of this machine: the cable is cut while they train, a node is killed, a worker is cut off.

VGRPO_NEEDS_NETNS=1, as in CI, forbids to leave these tests out."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.nodes import ADDRESSES, CABLES, Nodes, why_not
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from helpers.workers import SETTINGS

from vgrpo.sampling.served.server import RolloutServer
from vgrpo.sampling.served.settings import ServeRolloutConfig
from vgrpo.training import loop
from vgrpo.training.processes.joining import joined
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given

MOST_SECONDS = 60  # as docs/scale.md says
REASON = why_not()
pytestmark = pytest.mark.skipif(
    bool(REASON) and "VGRPO_NEEDS_NETNS" not in os.environ, reason=f"no network namespaces here: {REASON}"
)


@pytest.fixture
def nodes():
    assert not REASON, REASON
    with Nodes() as made:
        yield made


def wait_for(path, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"no {path.name}"
        time.sleep(0.05)


def train_together(folder, scene, slow):
    """What each process of the job does; at the iteration `slow` it waits for what will happen."""
    torch.set_num_threads(1)
    rank, iterate = os.environ["RANK"], loop.iterate

    def watched(run):
        if run.iteration == slow:
            (folder / f"{scene}-{rank}").touch()
            time.sleep(2)
        return iterate(run)

    loop.iterate = watched
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2)
    config = tiny_config(folder / "run", num_iterations=4, checkpoint_every=1, held_out_prompts=0, rollout=rollout)
    with joined() as processes:
        loop.train(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS), resume=True, processes=processes)
    (folder / f"{scene}-{rank}-done").touch()


def torchrun(index, port, *args):
    """One node's launcher, as `torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --local-addr ...` starts it."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ["GLOO_SOCKET_IFNAME"] = CABLES[index]
    config = LaunchConfig(
        min_nodes=2,
        max_nodes=2,
        nproc_per_node=1,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{ADDRESSES[0]}:{port}",
        rdzv_configs={"is_host": index == 0},
        local_addr=ADDRESSES[index],
        run_id=str(port),
        start_method="fork",  # a new interpreter would import everything again
        max_restarts=0,
    )
    elastic_launch(config, train_together)(*args)


def play(nodes, folder, scene, slow, event=lambda processes: None):
    """One scene: what each node wrote, and after how many seconds each said why it ended."""
    logs = [folder / f"{scene}-{index}.txt" for index in range(2)]
    port = {"cut": 29501, "killed": 29502, "end": 29503}[scene]
    processes = [nodes.start(index, log, torchrun, index, port, folder, scene, slow) for index, log in enumerate(logs)]
    try:
        if slow is not None:
            for rank in range(2):
                wait_for(folder / f"{scene}-{rank}")
        event(processes)
        until = time.monotonic() + MOST_SECONDS
        while time.monotonic() < until and not all(
            said(log) or not p.is_alive() for log, p in zip(logs, processes, strict=True)
        ):
            time.sleep(0.2)
    finally:  # torchrun itself may stay where the machine that keeps its store is out of reach
        for process in processes:
            if process.is_alive():
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
    return [log.read_text() for log in logs]


def said(log):
    return log.exists() and any(text in log.read_text() for text in ("; rank 0 ends, too", "; rank 1 ends, too", "PeerError"))


def test_a_cut_cable_or_a_killed_node_ends_all_soon_and_the_run_goes_on(nodes, tmp_path):
    first, second = play(nodes, tmp_path, "cut", 1, lambda _: nodes.cut())
    assert "rank 1" in first
    assert "gave no sign of life for 30 s; rank 0 ends, too" in first
    assert "rank 0, or the machine that keeps the launcher's store, has not answered for 30 s; rank 1 ends, too" in second
    nodes.plug()
    first, _ = play(nodes, tmp_path, "killed", 2, lambda processes: os.killpg(processes[1].pid, signal.SIGKILL))
    assert "PeerError: rank 1 (" in first
    assert "is gone: it was killed, or its machine is" in first
    play(nodes, tmp_path, "end", None)
    assert (tmp_path / "end-0-done").exists()
    assert (tmp_path / "end-1-done").exists()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]


TOKEN = "a-word-for-both"


def serve(folder):
    torch.set_num_threads(1)
    os.environ["VGRPO_TOKEN"] = TOKEN
    server = RolloutServer(ServeRolloutConfig(host=ADDRESSES[1], port=8200, **SETTINGS), tiny_pipeline())
    (folder / "serves").touch()
    server.serve_forever()


def train_with_a_worker(folder, workers):
    """At the second iteration, wait until the cable is cut."""
    torch.set_num_threads(1)
    os.environ["VGRPO_TOKEN"] = TOKEN
    iterate = loop.iterate

    def watched(run):
        if run.iteration == 1 and workers:
            (folder / "drawn").touch()
            wait_for(folder / "cut")
        return iterate(run)

    loop.iterate = watched
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2, batch_size=2)
    config = tiny_config(folder / f"run-{len(workers)}", num_iterations=3, held_out_prompts=0, rollout=rollout)
    loop.train(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, rollout_workers=workers))
    (folder / f"done-{len(workers)}").touch()


def rewards_of(folder: Path):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["reward/mean"] for line in lines], [line.get("rollout/own") for line in lines]


def test_a_worker_behind_a_cut_cable_loses_no_image(nodes, tmp_path, monkeypatch):
    monkeypatch.setenv("VGRPO_TOKEN", TOKEN)  # put back at the end, as this process trains, too
    worker = nodes.start(1, tmp_path / "worker.txt", serve, tmp_path)
    trainer = None
    try:
        wait_for(tmp_path / "serves")
        trainer = nodes.start(0, tmp_path / "trainer.txt", train_with_a_worker, tmp_path, [f"http://{ADDRESSES[1]}:8200"])
        wait_for(tmp_path / "drawn")
        nodes.cut()
        (tmp_path / "cut").touch()
        wait_for(tmp_path / "done-1", MOST_SECONDS)
    finally:
        for process in filter(None, (worker, trainer)):
            process.kill()
            process.join()
    train_with_a_worker(tmp_path, [])
    served, own = rewards_of(tmp_path / "run-1")
    assert served == rewards_of(tmp_path / "run-0")[0]
    assert own == [0, 2, 2]
