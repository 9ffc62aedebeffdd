"""A folder of runs for all tests of the workbench, and an application that serves it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from ui_folder import make_run

PORT, TOKEN = 8470, "a-token"


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """Two runs, one of which is hacked, and beside them a folder that is none."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "good", iterations=60, sets=4, prompts=5, groups=12)
    make_run(folder / "deep/hacked", iterations=80, sets=3, prompts=5, groups=2, hacked=True, lr=1e-3)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def served(tmp_path):
    """From a folder of runs to a client of the application. With `known` it has the token's cookie, as a page has."""
    from starlette.testclient import TestClient

    from vgrpo.workbench.server import make_app

    def serve(folder, known=True):
        app = make_app(folder, tmp_path / "cache", TOKEN, PORT)
        client = TestClient(app, base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)
        if known:
            assert client.get(f"/?token={TOKEN}").status_code == 303
        return client

    return serve
