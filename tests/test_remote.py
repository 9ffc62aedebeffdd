"""A reward behind a real server: the same scores, and every way in which a server can fail."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.cli import main
from vgrpo.config import RolloutConfig
from vgrpo.prompts import training_prompts
from vgrpo.rewards import RewardError, load_reward, score_images
from vgrpo.rewards.remote import Remote, ServeConfig, make_server, pack, unpack


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


def answering(content, *, delay=0.0, status=200):
    """A server that greets like ours and then answers every batch with `content`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(200, json.dumps({"reward": "odd"}))

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            self._send(status, content)

        def _send(self, status, text):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    return Handler


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


def test_the_server_refuses_what_it_cannot_read(running):
    url = running("sprites")
    for body in (b"nonsense", b"\x02" + b"\0" * 7 + b"{}"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, body))
        assert caught.value.code == 400


@pytest.mark.parametrize(
    "handler",
    [
        answering("no json"),
        answering('{"scores": [1]}'),
        answering('{"scores": "many"}'),
        answering('{"answer": 1}'),
        answering('{"scores": [1, 2]}', status=500),
        answering('{"scores": [1, 2]}', delay=0.6),
    ],
    ids=["nonsense", "too few", "no numbers", "no scores", "broken", "slow"],
)
def test_without_a_usable_answer_the_images_count_as_failed(running, handler):
    client = Remote(running(handler=handler), timeout=0.3, num_tries=2, pause=0.01)
    images, prompts = torch.rand(2, 3, 8, 8), [Prompt(text="a"), Prompt(text="b")]
    assert client(images, prompts).isnan().all()
    with pytest.raises(RewardError):
        score_images(client, images, prompts)


def test_a_failed_image_is_null_and_not_zero(running):
    client = Remote(running(handler=answering('{"scores": [null, 2.5]}')))
    scores = client(torch.rand(2, 3, 8, 8), [Prompt(text="a"), Prompt(text="b")])
    assert scores[0].isnan()
    assert scores[1] == 2.5


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
