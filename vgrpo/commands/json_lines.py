"""A run as a program sees it: one JSON object on stdout for each event."""

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

from vgrpo.support.json_files import to_json
from vgrpo.support.secrets import redact
from vgrpo.training.record.events import Event, ImagesJudged, Noticed
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import to_dict

LEFT_OUT = ("past",)  # the lines of metrics.jsonl that a resumed run finds; a program reads them there
OF_PICTURES = (ImagesJudged,)  # a program reads what they scored under groups/


class JsonLines:
    """`{"event": "iteration_done", "time": 1764000000.0, "iteration": 3, "values": {...}}`, one a line."""

    def __call__(self, event: Event) -> None:
        if not isinstance(event, OF_PICTURES):
            print(redact(event_line(event, time.time())), flush=True)

    def close(self) -> None:
        """Nothing is open."""

    def say(self, text: str) -> None:
        self(Noticed(text=text.strip()))


def event_line(event: Event, now: float) -> str:
    """An event's fields under their names; numbers that are not finite are null."""
    fields = {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    return to_json({"event": name, "time": now} | {key: fields[key] for key in fields if key not in LEFT_OUT})


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return to_dict(value)
    return str(value) if isinstance(value, Path) else value
