"""The application, and how it is served: on this machine's own address alone."""

import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from vgrpo.support.files import lives_elsewhere
from vgrpo.workbench.acts_api import ActsApi
from vgrpo.workbench.api import Api, refused
from vgrpo.workbench.duels_api import DuelsApi
from vgrpo.workbench.guard import Guard, new_token
from vgrpo.workbench.index import Index
from vgrpo.workbench.runs import Runs
from vgrpo.workbench.settings import UiConfig, default_cache

HOST = "127.0.0.1"
READ = 60.0
"""Seconds in which a browser has read the page that leads it here."""
LOOK = 1.0
"""Seconds between looks whether a process still lives."""
STATIC = Path(__file__).parent / "static"


def make_app(root: Path, cache: Path, token: str, port: int, leaving: Callable[[], bool] = lambda: False) -> ASGIApp:
    """Everything that is served, behind the guard."""
    runs = Runs(root)
    api = Api(runs=runs, index=Index(cache), cache=cache, leaving=leaving)

    def page(request: object) -> Response:
        return FileResponse(STATIC / "index.html")

    static = Mount("/static", StaticFiles(directory=STATIC))
    routes = [Route("/", page), *api.routes(), *DuelsApi(runs=runs).routes(), *ActsApi(runs=runs).routes(), static]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: refused}), token, port)


def serve(root: Path, config: UiConfig, say: Callable[[str], None]) -> None:
    """Serve until interrupted. `say` is told the address.

    Raises NotADirectoryError for a folder that is none, OSError if the port is taken.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is no folder; name a run's folder, or the one that your runs lie in")
    listener = _listener(config.port)
    port, token = listener.getsockname()[1], new_token()
    server: uvicorn.Server
    app = make_app(root, config.cache_dir or default_cache(), token, port, leaving=lambda: server.should_exit)
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False)
    server = uvicorn.Server(settings)
    address = f"http://{HOST}:{port}/?token={token}"
    say(f"{root} at {address}")
    if config.browser:
        threading.Thread(target=_open, args=(address,), daemon=True).start()
    if config.while_pid is not None:
        threading.Thread(target=_end_with, args=(server, config.while_pid), daemon=True).start()
    with listener:
        server.run(sockets=[listener])


def _open(address: str) -> None:
    """By a page that only this user can read and that leads on: everyone on this machine sees the words a browser is started
    with, and the address has the token."""
    with tempfile.TemporaryDirectory(prefix="vgrpo-ui-") as folder:
        page = Path(folder) / "open.html"
        page.touch(0o600)
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>vgrpo</title>\n')
        webbrowser.open(page.as_uri())
        time.sleep(READ)


def _end_with(server: uvicorn.Server, pid: int) -> None:
    while lives_elsewhere(pid):
        time.sleep(LOOK)
    server.should_exit = True


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(f"--port {port} cannot be taken ({error.strerror}); leave it out for a free one") from error
    return listener
