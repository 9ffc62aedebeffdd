"""`vgrpo ui` as a user starts it, and what it says of mistakes."""

import os
import re
import signal
import socket
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from vgrpo.commands.main import main


def test_it_prints_its_address_serves_and_ends_with_ctrl_c(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "vgrpo", "ui", str(tmp_path), "--no-browser"]
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
