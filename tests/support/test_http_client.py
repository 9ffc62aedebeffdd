"""The client of all services on systems that have less than Linux."""

import importlib
import socket

import pytest

from vgrpo.support.http import client


@pytest.fixture
def lacking(monkeypatch):
    """As on macOS."""
    with monkeypatch.context() as patch:
        for name in ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE"):
            patch.delattr(socket, name, raising=False)
        yield
    importlib.reload(client)


def test_options_that_a_system_lacks_are_left_out(lacking):
    names = {option[1] for option in importlib.reload(client).ALIVE}
    assert names == {socket.SO_KEEPALIVE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT}
