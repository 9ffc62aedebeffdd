"""What the page asks to be done: steer a run that goes on, and export what one has trained."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vgrpo.workbench.api import Json, known_run
from vgrpo.workbench.exports import export_from_page
from vgrpo.workbench.runs import Runs
from vgrpo.workbench.steering import Desk, cause

MOST_BYTES = 10_000
"""Of what a page sends."""


@dataclass(kw_only=True)
class ActsApi:
    """The guard lets nothing but the page itself come here with a POST."""

    runs: Runs
    desk: Desk = field(default_factory=Desk)

    def routes(self) -> list[Route]:
        return [
            Route("/api/runs/{run}/steering", self.steering),
            Route("/api/runs/{run}/steering", self.ask, methods=["POST"]),
            Route("/api/runs/{run}/steering/{name}", self.take_back, methods=["POST"]),
            Route("/api/runs/{run}/export", self.export, methods=["POST"]),
        ]

    def steering(self, request: Request) -> Response:
        return Json(self.desk.state(known_run(self.runs, request)))

    async def ask(self, request: Request) -> Response:
        run, content = known_run(self.runs, request), await _content(request)
        return await _done(lambda: self.desk.ask(run, content), lambda: self.desk.state(run))

    async def take_back(self, request: Request) -> Response:
        run, name = known_run(self.runs, request), request.path_params["name"]
        return await _done(lambda: self.desk.take_back(run, name), lambda: self.desk.state(run))

    async def export(self, request: Request) -> Response:
        run, content = known_run(self.runs, request), await _content(request)
        return await _done(lambda: export_from_page(run, content))


async def _content(request: Request) -> dict[str, Any]:
    try:
        content = json.loads((await request.body())[:MOST_BYTES])
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise HTTPException(400, "a JSON object is expected")
    return content


async def _done(*acts: Callable[[], Any]) -> Response:
    """What the last act returns. What is refused is said to the person who asked."""
    try:
        for act in acts:
            content = await asyncio.to_thread(act)
    except (ValueError, TypeError) as error:
        raise HTTPException(409, str(error)) from error
    except OSError as error:
        raise HTTPException(409, str(error) if error.errno is None else f"nothing was written: {cause(error)}") from error
    return Json(content)
