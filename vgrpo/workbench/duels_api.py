"""What the page of blind comparisons asks for."""

import json
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vgrpo.workbench import duels, pictures
from vgrpo.workbench.api import Json
from vgrpo.workbench.duels import Duel, Pair, Side
from vgrpo.workbench.runs import Runs

DUEL = "/api/duels/{first}/{first_part}/{second}/{second_part}"


@dataclass(kw_only=True)
class DuelsApi:
    """A duel is named by two runs and the sets of their pictures."""

    runs: Runs

    def routes(self) -> list[Route]:
        return [
            Route(DUEL, self.duel),
            Route(f"{DUEL}/result", self.result),
            Route(f"{DUEL}/preferences", self.preferences),
            Route(f"{DUEL}/{{pair}}", self.choose, methods=["POST"]),
            Route(f"{DUEL}/{{pair}}/{{place}}", self.picture),
        ]

    def duel(self, request: Request) -> Response:
        """Its pairs, without a word of who stands where, and which of them are decided."""
        duel = self.known(request)
        kept = duels.choices(self.runs.root, duel)
        pairs = [{"id": pair.id, "prompt": pair.prompt, "decided": pair.id in kept} for pair in duel.pairs()]
        return Json({"id": duel.id, "pairs": pairs})

    def result(self, request: Request) -> Response:
        duel = self.known(request)
        content: dict[str, Any] = duels.result(duels.choices(self.runs.root, duel))
        return Json(content | {"names": [duel.first.name, duel.second.name]})

    def preferences(self, request: Request) -> Response:
        text = duels.preferences(duels.choices(self.runs.root, self.known(request)))
        headers = {"Content-Disposition": "attachment; filename=preferences.jsonl"}
        return Response(text, media_type="application/jsonl", headers=headers)

    async def choose(self, request: Request) -> Response:
        duel = self.known(request)
        pair = self.known_pair(request, duel)
        body = await request.body()
        try:
            choice = json.loads(body[:1000])["choice"]
        except (ValueError, TypeError, KeyError, RecursionError):
            choice = None
        if choice not in ("left", "right", "tie"):
            raise HTTPException(400, "a choice is left, right or tie")
        try:
            duels.keep_choice(self.runs.root, duel, pair, choice)
        except OSError as error:
            raise HTTPException(409, f"{duels.NAME} cannot be written beside the runs: {error.strerror}") from error
        return Json({"kept": True})

    def picture(self, request: Request) -> Response:
        duel = self.known(request)
        pair, place = self.known_pair(request, duel), request.path_params["place"]
        if place not in ("left", "right"):
            raise HTTPException(404, "a picture stands left or right")
        side = duel.side(pair, place)
        data = pictures.sample_picture(side.run.files(), side.part, pair.index, pair.member)
        if data is None:
            raise HTTPException(404, "there is no picture that can be read")
        return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg")

    def known(self, request: Request) -> Duel:
        sides = []
        for name in ("first", "second"):
            run, part = self.runs.get(request.path_params[name]), request.path_params[f"{name}_part"]
            if run is None or part not in pictures.sample_sets(run.files()):
                raise HTTPException(404, "there are no such pictures; they may have been moved or deleted")
            sides.append(Side(run=run, part=part))
        return Duel(first=sides[0], second=sides[1])

    def known_pair(self, request: Request, duel: Duel) -> Pair:
        pair = next((pair for pair in duel.pairs() if pair.id == request.path_params["pair"]), None)
        if pair is None:
            raise HTTPException(404, "there is no such pair")
        return pair
