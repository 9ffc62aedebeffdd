"""`vgrpo ui` as a user starts it, and what it says of mistakes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from vgrpo.commands.beside import PageBeside
from vgrpo.commands.main import main
from vgrpo.training.record.events import RunFinished


def test_it_prints_its_address_serves_and_ends_with_ctrl_c(tmp_path):
    browser, words = tmp_path / "browser", tmp_path / "words"
    browser.write_text(
        f'#!/bin/sh\nstat -c %a "${{1#file://}}" > {words}.tmp\necho "$@" >> {words}.tmp\n'
        f'cat "${{1#file://}}" >> {words}.tmp\nmv {words}.tmp {words}\n'
    )
    browser.chmod(0o700)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "BROWSER": f"{browser} %s"}
    command = [sys.executable, "-m", "vgrpo", "ui", str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{30,}", line).group()
        opener = build_opener(HTTPCookieProcessor())
        assert b"<title>vgrpo</title>" in opener.open(address).read()
        assert b'"runs":[]' in opener.open(address.partition("?")[0] + "api/runs").read()
        with pytest.raises(HTTPError, match="403"):
            build_opener().open(address.partition("?")[0])
        assert (tmp_path / "cache/vgrpo/workbench/index.sqlite").is_file()
        end = time.monotonic() + 20
        while not words.exists() and time.monotonic() < end:
            time.sleep(0.05)
        mode, given, page = words.read_text().split("\n", 2)
        assert (mode, given.startswith("file://"), "token" in given) == ("600", True, False)  # others see a browser's words
        assert f"url={address}" in page
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (130, "")


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch):
    assert main(["ui", str(tmp_path / "none")]) == 1
    assert "none is no folder; name a run's folder" in capsys.readouterr().err
    assert main(["ui", str(tmp_path), "--port", "70000"]) == 1
    assert "--port 70000: must lie in 0 to 65535" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["ui", str(tmp_path), "--port", str(port)]) == 1
        assert f"--port {port} cannot be taken" in capsys.readouterr().err
    for name in [name for name in sys.modules if name.startswith("vgrpo.workbench.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["ui", str(tmp_path)]) == 1
    assert 'pip install "vgrpo[ui]"' in capsys.readouterr().err


def test_a_page_beside_a_training_ends_with_it(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BROWSER", "true")  # opens nothing
    small = "--rollout.num-prompts 4 --rollout.group-size 2 --eval.num-prompts 0 --eval.num-sample-prompts 1 --num-iterations 1"
    seen, began = [], PageBeside.__call__

    def watched(self, event):
        began(self, event)
        if isinstance(event, RunFinished):
            address, end = None, time.monotonic() + 60
            while address is None and time.monotonic() < end:
                time.sleep(0.05)
                seen.append(capfd.readouterr().err)
                address = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{30,}", "".join(seen))
            opener = build_opener(HTTPCookieProcessor())
            assert b"<title>vgrpo</title>" in opener.open(address.group()).read()
            seen.append(self.process)

    monkeypatch.setattr(PageBeside, "__call__", watched)
    assert main(["train", "sprites", "--output-dir", f"{tmp_path}/run", "--ui", "--quiet", *small.split()]) == 0
    assert seen[-1].poll() is not None


def test_a_page_ends_with_the_process_it_is_for(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "vgrpo", "ui", str(tmp_path), "--no-browser", "--while-pid", str(other.pid)]
        page = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert "http://127.0.0.1" in page.stdout.readline()
        other.communicate(b"\n")
    assert page.wait(30) == 0
    page.stdout.close()
