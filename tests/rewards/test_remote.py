"""A reward behind a real server: the same scores, and every way in which a server can fail."""

import datetime
import json
import math
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from helpers.tiny import tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.commands.main import main
from vgrpo.prompts.sources import training_prompts
from vgrpo.rewards.base import RewardError, score_images
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.served.remote import Remote
from vgrpo.rewards.served.server import make_server
from vgrpo.rewards.served.settings import ServeConfig
from vgrpo.rewards.served.wire import pack, scores_of, unpack
from vgrpo.training.settings.config import RolloutConfig


@pytest.fixture
def running():
    """Start servers, by reward name or with a handler of one's own; their addresses."""
    servers = []

    def start(name=None, handler=None):
        server = make_server(name, ServeConfig(port=0)) if name else ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answering(content, *, delay=0.0, status=200, length=None):
    """A server that greets like ours and then answers every batch with `content`, text or bytes, said to be of some length."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(200, json.dumps({"reward": "odd"}).encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            self._send(status, content if isinstance(content, bytes) else content.encode(), length)

        def _send(self, status, content, length=None):
            self.send_response(status)
            if length:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler


class NoHttp(answering("")):
    """Answers a batch with what is not HTTP."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(b"SSH-2.0\r\n")


def test_scores_are_those_of_the_reward_itself(running):
    prompts = training_prompts("sprites", 0)(0, 7)
    images = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255  # what 8 bits hold
    client = Remote(running("sprites"), batch_size=3)
    assert client.__name__ == "sprites"
    assert torch.equal(client(images, prompts), load_reward("sprites")(images, prompts))
    jpeg = load_reward(f"remote={running('jpeg_compressibility')}")
    assert torch.equal(jpeg(images, prompts), load_reward("jpeg_compressibility")(images, prompts))


def test_a_request_survives_the_way():
    prompts = [Prompt(text='say "HI" \u00e9', metadata={"tag": "x", "include": [{"count": 1}]}), Prompt(text="b")]
    images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 4, 5)
    got, read = unpack(pack(images, prompts))
    assert torch.equal(got, images)
    assert read == prompts


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (answering("no json"), "JSONDecodeError"),
        (answering(""), "JSONDecodeError"),
        (answering("null"), "no list of `scores`"),
        (answering("[1, 2]"), "no list of `scores`"),
        (answering('{"answer": 1}'), "no list of `scores`"),
        (answering('{"scores": null}'), "no list of `scores`"),
        (answering('{"scores": "many"}'), "no list of `scores`"),
        (answering('{"scores": {"0": 1, "1": 2}}'), "no list of `scores`"),
        (answering('{"scores": [1]}'), "1 scores for 2 images"),
        (answering('{"scores": [1, 2, 3]}'), "3 scores for 2 images"),
        (answering('{"scores": [1, NaN]}'), "NaN is no JSON"),
        (answering('{"scores": [1, -Infinity]}'), "-Infinity is no JSON"),
        (answering('{"scores": [1, 1e400]}'), "the score 'inf' is no finite number"),
        (answering('{"scores": [1, 1e300]}'), "is no finite number"),
        (answering('{"scores": [1, %s]}' % ("9" * 400)), "is no finite number"),
        (answering('{"scores": [1, %s]}' % ("9" * 5000)), "ValueError"),
        (answering('{"scores": [1, "2"]}'), "the score '2' is no finite number"),
        (answering('{"scores": [1, true]}'), "the score 'True' is no finite number"),
        (answering('{"scores": [1, [2]]}'), "is no finite number"),
        (answering('{"scores": [1, {"a": 2}]}'), "is no finite number"),
        (answering('{"scores": [1, 2], "scores": [3, 4]}'), "a name is there twice"),
        (answering("[" * 100_000), "too deep"),
        (answering('{"scores": [1, 2], "x": "%s"}' % ("x" * 2**20)), "more than 1,048,576 bytes"),
        (answering('{"scores": [1, 2]}', status=500), "HTTP 500"),
        (answering('{"scores": [1, 2]}', status=404), "HTTP 404"),
        (answering('{"scores": [1, 2]}', status=401), "HTTP 401"),
        (answering('{"scores": [1, 2]}', status=302), "HTTP 302"),
        (answering('{"scores": [1, 2]}', delay=0.6), "timed out"),
        (answering('{"scores": [1, 2]', length=100), "IncompleteRead"),
        (answering(b'{"scores": [1, "\xff"]}'), "UnicodeDecodeError"),
        (NoHttp, "BadStatusLine"),
    ],
)
def test_without_a_usable_answer_the_rollout_fails_and_the_reason_is_told(running, handler, reason):
    client = Remote(running(handler=handler), timeout=0.3, num_tries=2, pause=0.01, outage=0.1)
    images, prompts = torch.rand(2, 3, 8, 8), [Prompt(text="a"), Prompt(text="b")]
    with pytest.raises(RewardError, match=f"not one score for 2 images, the last: .*{reason}"):
        score_images(client, images, prompts)


def angry(images, prompts):
    raise OSError("the disk is full")


def test_why_a_reward_failed_on_the_server_is_told(running, monkeypatch):
    monkeypatch.setattr("vgrpo.rewards.served.server.load_reward", lambda name, device: angry)
    client = Remote(running("angry"))
    with pytest.raises(RewardError, match="the last: the reward failed on every image, last with OSError: the disk is full"):
        score_images(client, torch.rand(2, 3, 8, 8), [Prompt(text="a"), Prompt(text="b")])


def test_a_served_reward_computes_where_it_is_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr("vgrpo.rewards.served.server.load_reward", lambda name, device: asked.append((name, device)) or angry)
    make_server("clipscore", ServeConfig(port=0, device="cuda:1")).server_close()
    assert asked == [("clipscore", "cuda:1")]


def test_a_failed_image_is_null_and_not_zero(running):
    client = Remote(running(handler=answering('{"scores": [null, 2.5]}')))
    scores = client(torch.rand(2, 3, 8, 8), [Prompt(text="a"), Prompt(text="b")])
    assert scores[0].isinf()
    assert scores[1] == 2.5


@pytest.mark.parametrize(
    "source",
    [
        *("http://127.0.0.1:abc", "http://[::1", "http://a b", "http://", "http://:80", "http://a:99999", "http://a\x00b"),
        *("ftp://host", "host:8100", "//host", "http://me:pw@host", "http://host/?token=pw", "http://host#pw"),
    ],
)
def test_an_address_that_is_none_is_one_clear_error(source):
    with pytest.raises(ValueError, match=r"reward remote: give the server's address, .*") as caught:
        load_reward(f"remote={source}")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 90\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n\xff"]
)
def test_a_server_of_another_kind_is_one_clear_error(running, greeting):
    class Other(BaseHTTPRequestHandler):
        def handle(self):
            self.connection.recv(1000)
            self.wfile.write(greeting)

    with pytest.raises(ConnectionError, match="start one with `vgrpo serve-reward NAME`"):
        Remote(running(handler=Other))


def test_a_request_without_an_answer_costs_no_other_its_scores(running):
    images, prompts = torch.rand(3, 3, 8, 8), [Prompt(text="a")] * 3

    class Halting(answering('{"scores": [1, 2]}')):
        def do_POST(self):
            if self.headers["Content-Length"] == str(len(pack(images[:1], prompts[:1]))):  # the last request
                self.wfile.write(b"SSH-2.0\r\n")
            else:
                super().do_POST()

    client = Remote(running(handler=Halting), batch_size=2, num_tries=2, pause=0.01)
    scores = client(images, prompts)
    assert scores[:2].tolist() == [1, 2]
    assert scores[2].isinf()


def test_metadata_that_json_does_not_know_is_sent_as_text():
    day = datetime.date(2024, 5, 1)
    _, (prompt,) = unpack(pack(torch.zeros(1, 3, 2, 2), [Prompt(text="a", metadata={"day": day})]))
    assert prompt.metadata == {"day": "2024-05-01"}


def test_no_server_and_no_address(capsys):
    assert main(["train", "sprites", "--reward", "remote=http://127.0.0.1:9"]) == 1
    assert "start one with `vgrpo serve-reward NAME`" in capsys.readouterr().err
    assert main(["train", "sprites", "--reward", "remote"]) == 1
    assert "give the server's address" in capsys.readouterr().err
    assert main(["serve-reward"]) == 1
    assert "name the reward first" in capsys.readouterr().err


def test_training_on_a_server_started_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "vgrpo", "serve-reward", "sprites", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        try:
            url = process.stdout.readline().split(" at ")[1].split(";")[0]
            config = tiny_config(
                tmp_path / "run",
                reward=(f"remote={url}",),
                rollout=RolloutConfig(num_prompts=2, group_size=4, num_steps=2),
            )
            result = train(config, pipeline=tiny_pipeline(), prompts=training_prompts("sprites", 0)(0, 4), quiet=True)
        finally:
            process.terminate()  # SIGINT is ignored in whatever a shell started in the background
    lines = [json.loads(line) for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["reward/failed"] == 0 for line in lines)


def test_a_reward_that_abstains_is_told_from_one_that_fails(running, monkeypatch):
    def picky(images, prompts):
        if any(prompt.text == "broken" for prompt in prompts):
            raise KeyError("broken")
        return torch.tensor([math.nan if prompt.text == "other" else 1.0 for prompt in prompts])

    monkeypatch.setattr("vgrpo.rewards.served.server.load_reward", lambda name, device: picky)
    prompts = [Prompt(text=text) for text in ("mine", "other", "broken", "other")]
    scores = Remote(running("mine:picky"), batch_size=4)(torch.rand(4, 3, 8, 8), prompts)
    assert scores[0] == 1.0
    assert scores[[1, 3]].isnan().all()
    assert scores[2].isinf()


@pytest.mark.parametrize("silent", [[0], [1, 5], "1", [True], None])
def test_abstentions_that_cannot_be_are_refused(silent):
    assert scores_of({"scores": [0.5, None], "abstained": [1]}, 2).isnan().tolist() == [False, True]
    with pytest.raises(ValueError, match="abstained"):
        scores_of({"scores": [0.5, None], "abstained": silent}, 2)
