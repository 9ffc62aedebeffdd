"""`vgrpo serve-reward` against requests that mean harm, over real sockets: each is refused soon, and the next one is served."""

import json
import re
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest
import torch

from vgrpo import Prompt
from vgrpo.commands.main import main
from vgrpo.rewards.served.remote import Remote
from vgrpo.rewards.served.server import RewardServer
from vgrpo.rewards.served.settings import ServeConfig
from vgrpo.rewards.served.wire import LONGEST_PROMPT, pack
from vgrpo.support.http.hosts import hostname_of, is_loopback

IMAGES, PROMPTS = torch.rand(2, 3, 4, 4), [Prompt(text="a"), Prompt(text="b")]
GOOD = pack(IMAGES, PROMPTS)


def brightness(images, prompts):
    return images.mean((1, 2, 3))


def slow(images, prompts):
    time.sleep(30)


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr("vgrpo.rewards.served.server.load_reward", lambda name, device: {"slow": slow}.get(name, brightness))
    monkeypatch.delenv("VGRPO_TOKEN", raising=False)
    servers = []

    def run(name="brightness", **settings):
        server = RewardServer(name, ServeConfig(port=0, **{"megabytes": 1, "max_images": 8, "max_pixels": 64} | settings))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(server, content, *, wait=20.0):
    """What comes back for these bytes: the status, and the answer's text."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=wait) as connection:
        connection.sendall(content)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d+)", head)
    return int(status.group(1)) if status else None, body.decode()


def request(body=GOOD, *, method="POST", host="localhost", length=None, **headers):
    lines = [f"{method} / HTTP/1.1", *([f"Host: {host}"] if host is not None else [])]
    if length != "":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def packed(header, pixels=b"\0" * 96):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + pixels


def header(prompts='[{"text": "a", "metadata": {}}, {"text": "b", "metadata": {}}]', **changes):
    images = {"dtype": "U8", "shape": [2, 3, 4, 4], "data_offsets": [0, 96]} | changes
    return {"__metadata__": {"prompts": prompts}, "images": images}


def one(text='"a"', metadata="{}"):
    return packed(header(f'[{{"text": {text}, "metadata": {metadata}}}]', shape=[1, 3, 4, 4], data_offsets=[0, 48]), b"\0" * 48)


BODIES = {
    "nonsense": b"nonsense",
    "seven bytes": b"1234567",
    "a header of no bytes": struct.pack("<Q", 0) + b"{}",
    "a header longer than the request": struct.pack("<Q", 2**40) + b"{}",
    "the longest header": struct.pack("<Q", 2**64 - 1) + b"{}",
    "no JSON": packed(b"{images"),
    "JSON that is no mapping": packed([]),
    "deep JSON": packed(b"[" * 100_000),
    "deep mappings": packed(b'{"a":' * 50_000),
    "another tensor": packed(header() | {"more": header()["images"]}),
    "no images": packed({"__metadata__": {"prompts": "[]"}}),
    "no prompts": packed({"__metadata__": {}, "images": header()["images"]}),
    "images twice": packed(json.dumps(header()).encode()[:-1] + b', "images": {}}'),
    "floats": packed(header(dtype="F32")),
    "NaN in the header": packed(b'{"__metadata__": NaN, "images": {}}'),
    "a shape of texts": packed(header(shape=["2", 3, 4, 4])),
    "a shape of booleans": packed(header(shape=[True, 3, 4, 4])),
    "a negative shape": packed(header(shape=[-2, 3, 4, 4])),
    "no image": packed(header("[]", shape=[0, 3, 4, 4], data_offsets=[0, 0]), b""),
    "a huge shape": packed(header(shape=[2**40, 3, 4, 4])),
    "an overflowing shape": packed(header(shape=[2**30, 3, 2**30, 2**30])),
    "three dimensions": packed(header(shape=[6, 4, 4])),
    "four channels": packed(header(shape=[2, 4, 4, 3])),
    "too many images": pack(torch.rand(9, 3, 4, 4), PROMPTS[:1] * 9),
    "too many pixels": pack(torch.rand(1, 3, 9, 9), PROMPTS[:1]),
    "too few pixels": packed(header(), b"\0" * 95),
    "pixels too many": packed(header(), b"\0" * 97),
    "other offsets": packed(header(data_offsets=[1, 96])),
    "no offsets": packed(header(data_offsets=None)),
    "too few prompts": packed(header('[{"text": "a", "metadata": {}}]')),
    "prompts that are no list": packed(header("{}")),
    "prompts that are no JSON": packed(header("[")),
    "prompts as a list": packed(header([{"text": "a"}])),
    "deep prompts": packed(header("[" * 50_000)),
    "a prompt that is text": packed(header('["a", "b"]')),
    "a prompt without text": packed(header('[{"metadata": {}}, {"metadata": {}}]')),
    "a prompt with more": packed(header('[{"text": "a", "metadata": {}, "x": 1}, {"text": "b", "metadata": {}}]')),
    "a number as text": one("5"),
    "a long text": one(json.dumps("x" * (LONGEST_PROMPT + 1))),
    "a list as metadata": one(metadata="[]"),
    "NaN in the metadata": one(metadata='{"a": NaN}'),
    "metadata twice": one(metadata='{"a": 1, "a": 2}'),
}
REQUESTS = {
    "no host": (request(host=None), 403),
    "an empty host": (request(host=""), 403),
    "another host": (request(host="evil.example"), 403),
    "another host with a port": (request(host="evil.example:8100"), 403),
    "a host that begins as ours": (request(host="localhost.evil.example"), 403),
    "two hosts": (request(host="localhost\r\nHost: localhost"), 403),
    "a web page": (request(Origin="http://localhost"), 403),
    "a web page without a name": (request(Origin="null"), 403),
    "a web page that only looks": (request(b"", method="GET", length="", Origin="http://localhost"), 403),
    "chunks": (request(b"5\r\nhello\r\n0\r\n\r\n", length="", Transfer_Encoding="chunked"), 411),
    "chunks and a length": (request(Transfer_Encoding="chunked"), 411),
    "an unknown encoding": (request(Transfer_Encoding="gzip"), 411),
    "no length": (request(length=""), 411),
    "length 0": (request(b"", length=0), 400),
    "a negative length": (request(length=-1), 400),
    "a length that is no number": (request(length="many"), 400),
    "a length with a sign": (request(length="+5"), 400),
    "a length of other digits": (request(length="\xb2"), 400),
    "a hexadecimal length": (request(length="0x10"), 400),
    "two lengths": (request(length=f"{len(GOOD)}\r\nContent-Length: 5"), 400),
    "an endless length": (request(length="9" * 400), 400),
    "a large length": (request(length=10**12), 413),
    "a length just too large": (request(length=10**6 + 1), 413),
    "another method": (request(method="PUT"), 501),
    "to delete": (request(method="DELETE"), 501),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", 400),
    "a long first line": (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    "a long header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    "an unknown version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
}


def served(server):
    """Whether a good request is still answered."""
    status, text = ask(server, request())
    return status == 200 and json.loads(text)["scores"] == pytest.approx(IMAGES.mean((1, 2, 3)).tolist(), abs=0.01)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_request_is_refused(start, body):
    server = start()
    status, text = ask(server, request(body))
    assert status == 400
    assert json.loads(text)["error"]
    assert served(server)


@pytest.mark.parametrize(("content", "status"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_of_another_kind_is_refused(start, content, status):
    server = start()
    assert ask(server, content)[0] == status
    assert served(server)


def test_a_body_that_is_too_large_is_not_read(start):
    server = start()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(request(b"", length=10**9))
        begin = time.monotonic()
        assert b" 413 " in connection.recv(2**16)
        assert time.monotonic() - begin < 10
    assert served(server)


@pytest.mark.parametrize(
    "sent", [b"", b"POST / HT", request()[:60], request()[:-1]], ids=["nothing", "a word", "a header", "most"]
)
def test_a_client_that_waits_is_left(start, sent):
    server = start(read_seconds=0.5)
    begin = time.monotonic()
    status, _ = ask(server, sent)
    assert status in (None, 408)
    assert time.monotonic() - begin < 10
    assert served(server)


def test_a_client_that_sends_a_byte_at_a_time_is_left(start):
    server = start(read_seconds=0.6)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        begin = time.monotonic()
        with suppress(OSError):  # the server has hung up
            while time.monotonic() - begin < 15:
                connection.sendall(b"X")
                time.sleep(0.05)
        assert time.monotonic() - begin < 10
    assert served(server)


def test_a_reward_that_hangs_is_told(start):
    server = start("slow", score_seconds=0.2)
    status, text = ask(server, request())
    assert (status, json.loads(text)["scores"]) == (200, [None, None])
    assert "no answer within 0.2 s" in json.loads(text)["error"]


@pytest.mark.parametrize("word", ["", "wrong", "secret-wordx", "secret-wor", "\xff", "Basic secret-word"])
def test_a_wrong_token_is_refused(start, monkeypatch, word):
    monkeypatch.setenv("VGRPO_TOKEN", "secret-word")
    server = start()
    status, text = ask(server, request(Authorization=f"Bearer {word}"))
    assert (status, "secret-word" in text) == (401, False)
    assert ask(server, request())[0] == 401
    assert ask(server, request(b"", method="GET", length=""))[0] == 401
    assert ask(server, request(Authorization="Bearer secret-word"))[0] == 200


def test_the_client_sends_the_token_and_names_what_is_missing(start, monkeypatch):
    monkeypatch.setenv("VGRPO_TOKEN", "secret-word")
    url = f"http://127.0.0.1:{start().server_port}"
    assert Remote(url)(IMAGES, PROMPTS).tolist() == pytest.approx(IMAGES.mean((1, 2, 3)).tolist(), abs=0.01)
    monkeypatch.setenv("VGRPO_TOKEN", "other-word")
    with pytest.raises(ConnectionError, match=r"HTTP 401 .*set VGRPO_TOKEN to the server's own") as caught:
        Remote(url)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_machines_are_let_in_only_with_a_token(monkeypatch, capsys, host):
    monkeypatch.delenv("VGRPO_TOKEN", raising=False)
    assert main(["serve-reward", "sprites", "--host", host, "--port", "0"]) == 1
    assert f"--host {host} lets other machines in: set VGRPO_TOKEN to a secret word" in capsys.readouterr().err


def test_a_server_for_others_is_called_by_the_names_that_are_allowed(start, monkeypatch):
    monkeypatch.setenv("VGRPO_TOKEN", "secret-word")
    server = start(host="0.0.0.0", allow_host=("gpu-box",))
    for host, status in (("gpu-box:8100", 200), ("GPU-BOX", 200), ("[::1]:80", 200), ("0.0.0.0", 200), ("other", 403)):
        assert ask(server, request(host=host, Authorization="Bearer secret-word"))[0] == status


def test_a_proxy_of_the_environment_sees_nothing_of_this_machine(start, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Remote(f"http://127.0.0.1:{start().server_port}").__name__ == "brightness"


def test_what_is_of_this_machine_alone():
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil", "")))
    assert [hostname_of(text) for text in ("a:80", "A", "[::1]:80", "[::1]", "", ":80")] == [
        "a",
        "a",
        "[::1]",
        "[::1]",
        "",
        ":80",
    ]


def test_a_port_that_is_taken_is_named_before_the_reward_is_loaded(start, monkeypatch, capsys):
    port = start().server_port
    monkeypatch.setattr("vgrpo.rewards.served.server.load_reward", lambda *_: pytest.fail("loaded"))
    assert main(["serve-reward", "sprites", "--port", str(port)]) == 1
    assert f"--port {port}: cannot be listened at" in capsys.readouterr().err
