"""What the page asks for: JSON and pictures. A browser names runs by ids and all else by numbers, never by paths."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from vgrpo.workbench import pictures
from vgrpo.workbench.answers import diagnosis_answer, run_answer, samples_answer
from vgrpo.workbench.exports import HeldOut, held_out_entry
from vgrpo.workbench.index import Index
from vgrpo.workbench.live import events
from vgrpo.workbench.runs import Run, Runs, shown

MOST_GROUPS = 50
"""Of a page of groups."""
MOST_RUNS = 12
"""That are watched at once."""
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""For what is asked for under its stamp."""


class Json(Response):
    """Compact, and without NaN, which is no JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


@dataclass(kw_only=True)
class Api:
    runs: Runs
    index: Index
    cache: Path
    leaving: Callable[[], bool] = lambda: False
    """Whether the server is about to end, and with it every stream of events."""
    _held_out: HeldOut = field(default_factory=HeldOut)
    _diagnoses: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        return [
            Route("/api/runs", self.list_runs),
            Route("/api/events", self.watch),
            Route("/api/runs/{run}", self.run),
            Route("/api/runs/{run}/metrics", self.metrics),
            Route("/api/runs/{run}/diagnosis", self.diagnosis),
            Route("/api/runs/{run}/held-out", self.held_out),
            Route("/api/runs/{run}/samples/{part}", self.samples),
            Route("/api/runs/{run}/samples/{part}/sheet", self.sample_sheet),
            Route("/api/runs/{run}/samples/{part}/{index:int}/{member:int}", self.sample_picture),
            Route("/api/runs/{run}/groups", self.groups),
            Route("/api/runs/{run}/groups/{iteration:int}", self.group),
            Route("/api/runs/{run}/groups/{iteration:int}/sheet", self.group_sheet),
        ]

    def list_runs(self, request: Request) -> Response:
        return Json({"folder": shown(str(self.runs.root)), "runs": [run.summary(self.index) for run in self.runs.found()]})

    def run(self, request: Request) -> Response:
        return Json(run_answer(self.known(request), self.index))

    def metrics(self, request: Request) -> Response:
        series = self.known(request).fresh_series()
        return Json(series.after(min(_number(request, "after", 0), series.rows)))

    def diagnosis(self, request: Request) -> Response:
        run = self.known(request)
        files = run.files()
        stamp = "|".join(str(files.stamp(name)) for name in ("metrics.jsonl", "config.yaml", "eval.json"))
        before, content = self._diagnoses.get(run.id, ("", {}))
        if before != stamp:
            content = diagnosis_answer(run)
            self._diagnoses[run.id] = stamp, content
        return Json(content)

    def held_out(self, request: Request) -> Response:
        run = self.known(request)
        return Json(held_out_entry(run, self._held_out.points(run)))

    def samples(self, request: Request) -> Response:
        run, part = self.known_set(request)
        return Json(samples_answer(run, part))

    def sample_sheet(self, request: Request) -> Response:
        run, part = self.known_set(request)
        return _picture(pictures.sample_sheet(run.files(), part, self.cache / "sheets"))

    def sample_picture(self, request: Request) -> Response:
        run, part = self.known_set(request)
        index, member = request.path_params["index"], request.path_params["member"]
        if not (index < pictures.MOST_PROMPTS and member < pictures.NUM_IMAGES):
            raise HTTPException(404, "there is no such picture")
        return _picture(pictures.sample_picture(run.files(), part, index, member))

    def groups(self, request: Request) -> Response:
        """A page of groups, the newest first, from behind the last one of the page before on. While iterations are `left` to be
        read, a page that is not full may be asked for again."""
        run = self.known(request)
        left = pictures.refresh_groups(run, self.index)
        words, limit = request.query_params.get("words", "")[:200], min(MOST_GROUPS, _number(request, "limit", 20))
        before = None
        if "before" in request.query_params:
            before = _number(request, "before", 0), _number(request, "place", 0)
        rows = self.index.groups(run.id, words, before, max(1, limit))
        return Json({"groups": [row._asdict() for row in rows], "left": left})

    def group(self, request: Request) -> Response:
        return Json(pictures.group_entry(self.known(request).files(), request.path_params["iteration"]))

    def group_sheet(self, request: Request) -> Response:
        return _picture(pictures.group_sheet(self.known(request).files(), request.path_params["iteration"]))

    async def watch(self, request: Request) -> Response:
        names = request.query_params.get("runs", "").split(",")[:MOST_RUNS]
        runs = [run for name in names if (run := self.runs.get(name)) is not None]
        return StreamingResponse(events(runs, self.leaving), media_type="text/event-stream")

    def known(self, request: Request) -> Run:
        return known_run(self.runs, request)

    def known_set(self, request: Request) -> tuple[Run, str]:
        run, part = self.known(request), request.path_params["part"]
        if part not in pictures.sample_sets(run.files()):
            raise HTTPException(404, "this run has no such set of pictures")
        return run, part


def known_run(runs: Runs, request: Request) -> Run:
    """The one that the address names. Raises HTTPException if there is none."""
    run = runs.get(request.path_params["run"])
    if run is None:
        raise HTTPException(404, "there is no such run; it may have been moved or deleted")
    return run


def refused(request: Request, error: Exception) -> Response:
    return PlainTextResponse(getattr(error, "detail", "it failed"), getattr(error, "status_code", 500))


def _picture(data: bytes | None) -> Response:
    if data is None:
        raise HTTPException(404, "there is no picture that can be read")
    return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg", headers=FOREVER)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default
