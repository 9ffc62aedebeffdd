"""Images drawn by workers are those that the run draws itself, bit for bit, whatever becomes of the workers."""

import json
import os
import signal
import threading
import urllib.request

import pytest
import torch
from helpers.tiny import tiny_pipeline
from helpers.workers import address, require_same, run, worker, worker_process

from vgrpo.commands.main import main
from vgrpo.core.types import Prompt
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.quantised import to_int8
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import OBJECTIVES
from vgrpo.sampling.served.wire import likeness, pack_weights
from vgrpo.sampling.settings import Sampling
from vgrpo.training.rollouts.workers import Named, RolloutWorkers


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone") / "run")


def test_workers_draw_the_same_images(alone, tmp_path):
    with worker() as one, worker() as two:
        drawn = []
        for server in (one, two):
            server.draw = lambda order, draw=server.draw, server=server: drawn.append(server) or draw(order)
        found = run(tmp_path / "run", [address(one), address(two)])
    require_same(found, alone)
    assert set(drawn) == {one, two}
    assert [line["rollout/own"] for line in found.lines] == [0, 0, 0]
    assert [line["rollout/stale"] for line in found.lines] == [0.0] * 3
    assert "rollout/own" not in alone.lines[0]


def test_a_worker_that_is_killed_while_it_draws_and_comes_back_loses_no_image(alone, tmp_path):
    process, url = worker_process()
    back = []

    def during(iteration):
        if iteration == 0:
            os.kill(process.pid, signal.SIGSTOP)  # it takes the next piece and does not answer
            threading.Timer(0.5, os.kill, (process.pid, signal.SIGKILL)).start()
        if iteration == 1:
            back.append(worker_process(int(url.rpartition(":")[2]))[0])  # knows nothing of the run

    try:
        with worker() as other:
            slow, draw = threading.Event(), other.draw
            other.draw = lambda order: slow.wait(0.05) or draw(order)  # so that the first gets its share
            found = run(tmp_path / "run", [url, address(other)], during)
    finally:
        for each in (process, *back):
            each.kill()
    require_same(found, alone)
    assert found.lines[1]["rollout/again"] >= 1
    assert any(f"rollout worker {url} is lost" in text for text in found.said)


def test_without_any_worker_left_the_run_draws_itself(alone, tmp_path):
    process, url = worker_process()
    found = run(tmp_path / "run", [url], lambda iteration: process.kill() if iteration == 0 else None)
    require_same(found, alone)
    assert [line["rollout/own"] for line in found.lines] == [0, 3, 3]


def test_a_worker_never_draws_with_other_weights_than_it_was_asked_for(tmp_path):
    with worker() as server:
        seen = []
        draw = server.draw
        server.draw = lambda order: seen.append((order.weights, list(server.versions))) or draw(order)
        run(tmp_path / "run", [address(server)])
        versions = list(dict.fromkeys(name for name, _ in seen))
        assert len(versions) == 3  # one for each iteration
        assert [name for name, there in seen if name not in there] == versions  # each refused once, and then sent
        assert list(server.versions) == versions
        server.draw = lambda order: draw(order).replace(order.weights.encode(), b"0" * 32)  # that says another's name
        found = run(tmp_path / "liar", [address(server)])
        assert [line["rollout/own"] for line in found.lines] == [3, 3, 3]
        assert any("images of the weights 000" in text for text in found.said)


def test_what_workers_cannot_do_is_refused_at_the_start(tmp_path, capsys):
    with worker() as server:
        url = address(server)
        with pytest.raises(ValueError, match="FlowGRPO trains on the steps of its rollouts"):
            run(tmp_path / "steps", [url], objective=OBJECTIVES["flowgrpo"]())
        with pytest.raises(ValueError, match="a whole network would go to each worker"):
            run(tmp_path / "full", [url], finetune="full")
        with pytest.raises(ValueError, match=r"precision is float32, where the run has bfloat16.* with --precision bf16"):
            run(tmp_path / "bf16", [url], precision="bf16")
        other = tiny_pipeline()
        other.transformer.proj_out.weight.data[0, 0] += 1
    with worker(other) as server, pytest.raises(ValueError, match=r"its network is .* so its images would be others"):
        run(tmp_path / "other", [address(server)])
    with pytest.raises(ConnectionError, match="start one with `vgrpo serve-rollout MODEL`"):
        run(tmp_path / "none", ["http://127.0.0.1:9"])
    assert not list(tmp_path.iterdir())
    for words in (["--rollout-workers"], ["--rollout-workers", "a:8200"]):
        assert main(["train", "sprites", *words]) in (1, 2)
    assert "takes values, but none is given" in capsys.readouterr().err
    assert main(["serve-rollout"]) == 1
    assert "name the model first" in capsys.readouterr().err


def test_a_worker_of_several_runs_is_sent_the_weights_again_and_not_lost():
    with worker() as server:
        policy, take, forgotten = make_policy(tiny_pipeline(), max_sequence_length=0), server.take, []

        def forgetful(body):
            name = take(body)
            if len(forgotten) < 3:  # as if other runs had sent theirs in between
                forgotten.append(server.versions.pop(name))
            return name

        server.take = forgetful
        add_lora(policy, LoraConfig(rank=4, alpha=8), 0)
        weights = pack_weights(trainable(policy.module), LoraConfig(rank=4, alpha=8))
        workers = RolloutWorkers([address(server)], {})
        named, sampling = Named((0, "x"), [Prompt(text="a key")], [(0, 0, 0)]), Sampling(num_steps=1, shift=1.0, guidance=1.0)
        deal = workers.begin([named], weights, sampling, policy.latent_shape, lambda drawn, piece: None)
        (drawn,) = deal.finished(lambda piece: None)
    assert drawn.images.shape[:2] == (1, 3)
    assert (len(forgotten), deal.num_again, workers.said.empty()) == (3, 0, True)


def test_weights_in_8_bits_are_told_apart():
    pytest.importorskip("torchao")
    digests = []
    for change in (0.0, 0.0, 0.5):
        policy = make_policy(tiny_pipeline(), max_sequence_length=0)
        policy.module.transformer_blocks[1].attn.to_q.weight.data[3, 5] += change
        to_int8(policy.module, "cpu")
        digests.append(likeness(policy)["network"])
    assert digests[0] == digests[1] != digests[2]


def test_a_fault_of_the_worker_is_told_on_both_sides(capsys):
    with worker() as server:
        server.draw = lambda order: {}["a bug"]
        order = json.dumps(ORDER | {"sampling": SAMPLING}).encode()
        assert ask(f"{address(server)}/draw", order) == (500, b'{"error": "KeyError: \'a bug\'"}')
    assert capsys.readouterr().err == "POST '/draw' failed: KeyError: 'a bug'\n"


def ask(url, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


ORDER = {"weights": "0" * 32, "seed": [0, "iteration", 0], "texts": ["a"], "images": [[0, 0, 0]]}
SAMPLING = {"solver": "euler", "num_steps": 1, "shift": 1.0, "guidance": 1.0, "batch_size": None}
BAD_ORDERS = {
    "no JSON": b"{",
    "a list": [],
    "nothing": {},
    "more": ORDER | {"sampling": SAMPLING, "lora": "x"},
    "no solver": ORDER | {"sampling": SAMPLING | {"solver": "rk"}},
    "half a step": ORDER | {"sampling": SAMPLING | {"num_steps": 0.5}},
    "endless steps": ORDER | {"sampling": SAMPLING | {"num_steps": 10**9}},
    "a path": ORDER | {"sampling": SAMPLING | {"shift": "/etc/passwd"}},
    "texts of numbers": ORDER | {"sampling": SAMPLING, "texts": [1]},
    "another text": ORDER | {"sampling": SAMPLING, "images": [[1, 0, 0]]},
    "too many": ORDER | {"sampling": SAMPLING, "images": [[0, 0, 0]] * 9},
    "none": ORDER | {"sampling": SAMPLING, "images": []},
    "a seed of lists": ORDER | {"sampling": SAMPLING, "seed": [[0]]},
}


def test_orders_that_are_none_are_refused_and_the_next_is_served():
    with worker(max_images=8) as server:
        url = address(server)
        for name, order in BAD_ORDERS.items():
            status, text = ask(f"{url}/draw", order if isinstance(order, bytes) else json.dumps(order).encode())
            assert (status, bool(json.loads(text)["error"])) == (400, True), name
        for body in (b"x", b"\0" * 100, torch.rand(3).numpy().tobytes()):
            assert ask(f"{url}/weights", body)[0] == 400
        assert ask(f"{url}/elsewhere", b"{}")[0] == 404
        assert ask(f"{url}/draw", json.dumps(ORDER | {"sampling": SAMPLING}).encode())[0] == 409
        assert json.loads(ask(url)[1])["kind"] == "vgrpo rollout"
