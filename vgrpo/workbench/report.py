"""report.html: a run's page in one file, which opens offline and asks nobody. The page is the workbench's own, its modules and
styles among it, with the answers to all that it asks for.

The browser may run that one script and nothing else: a policy in the page names it by its hash.
"""

import base64
import hashlib
import html
import json
import warnings
from pathlib import Path
from typing import Any

from vgrpo.pages.page import shown as as_html
from vgrpo.pages.page import write_html
from vgrpo.pages.run_files import RunFiles
from vgrpo.support.files import refused
from vgrpo.support.secrets import redact
from vgrpo.training.record.events import Event, RunFinished
from vgrpo.workbench import bundle, pictures
from vgrpo.workbench.answers import diagnosis_answer, run_answer
from vgrpo.workbench.exports import HeldOut, held_out_entry
from vgrpo.workbench.runs import Run, shown
from vgrpo.workbench.series import Series

NAME, ID = "report.html", "report"
MOST_ROWS, DIGITS = 1000, 6
"""Rows of numbers; of a longer run each is the mean of several iterations. Digits of a number."""
MOST_SETS, MOST_SHEETS = 6, 12
"""Checkpoints with pictures, the first and the last among them, and iterations with groups."""
SIDE, MOST_BYTES = 256, 1_000_000
"""Pixels of a sample picture, and bytes of the pictures of all checkpoints; as much for all groups."""
MOST_NOTES = 20
ICON = "/static/icon.svg"


class Whole(Run):
    """A run with one reader of its files, so that all that is left out is noted in one place."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder.name)
        self.id, self._files = ID, RunFiles(folder)

    def files(self) -> RunFiles:
        return self._files


class ReportFile:
    """Listens to a run and writes its report at the end. The run is finished then, with or without one."""

    def __call__(self, event: Event) -> None:
        if not isinstance(event, RunFinished):
            return
        try:
            write_report(event.folder)
        except (OSError, ValueError) as error:
            warnings.warn(f"no report: {redact(str(error))}; `vgrpo report {event.folder}` writes it", stacklevel=2)


def write_report(folder: Path) -> Path:
    """Write report.html from what lies in a run's folder; returns its path. What cannot be shown is named in it.

    Raises FileNotFoundError if that is no run, OSError if the file cannot be written.
    """
    for name in ("metrics.jsonl", "config.yaml"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not a run's folder: it holds no {name}")
    try:
        return write_html(folder / NAME, page_of(folder))
    except OSError as error:
        if error.errno is None:
            raise
        why = refused(error, folder / NAME, "The run's own files are as they were.", "give the same command again")
        raise OSError(why) from error


def page_of(folder: Path) -> str:
    """The HTML."""
    run = Whole(folder.resolve())
    answers = json.dumps(answers_of(run), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    script, styles = bundle.script(), bundle.styles()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(styles)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{as_html(run.name)}</title><link rel="icon" href="{_icon()}"><style>{styles}</style></head><body>'
        '<a class="skip" href="#main">Skip to the content</a><header class="bar" id="bar"></header>'
        '<main id="main" tabindex="-1"><p class="loading">Loading…</p></main>'
        '<div id="toast" role="status" aria-live="polite"></div>'
        "<noscript>This page draws itself with JavaScript, which is switched off here.</noscript>"
        f'<script type="application/json" id="kept">{answers}</script><script type="module">{script}</script></body></html>\n'
    )


def answers_of(run: Run) -> dict[str, Any]:
    """By what the page asks for."""
    path, files = f"/api/runs/{ID}", run.files()
    parts = _spread(pictures.sample_sets(files), MOST_SETS)
    sheets = _sheets(files, parts)
    kept = [part for part in parts if part in sheets]
    told: dict[str, Any] = {
        ICON: _icon(),
        path: run_answer(run) | {"folder": shown(run.name), "sets": kept},
        f"{path}/metrics": _metrics(run.fresh_series()),
        f"{path}/diagnosis": diagnosis_answer(run),
        f"{path}/held-out": held_out_entry(run, HeldOut().points(run)),
    }
    for part in kept:
        told[f"{path}/samples/{part}"] = pictures.sample_entry(files, part)
        told[f"{path}/samples/{part}/sheet"] = sheets[part]
    told |= _groups(files, path)
    told[path]["notes"] = list(dict.fromkeys(shown(note) for note in files.notes))[:MOST_NOTES]
    return told


def _sheets(files: RunFiles, parts: list[str]) -> dict[str, str]:
    """Pictures of as many sets as there is room for, the last and the first before those between."""
    sheets: dict[str, str] = {}
    size = 0
    for part in dict.fromkeys([*parts[-1:], *parts]):
        data = pictures.made_sheet(files, part, SIDE)
        size += len(data)
        if size > MOST_BYTES and len(sheets) >= 2:
            break
        sheets[part] = _data(data)
    return sheets


def _groups(files: RunFiles, path: str) -> dict[str, Any]:
    """Groups of some iterations, the newest first, as many as there is room for."""
    told: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    size = 0
    for iteration in reversed(_spread(pictures.group_iterations(files), MOST_SHEETS)):
        data = pictures.group_sheet(files, iteration)
        size += len(data or b"")
        if size > MOST_BYTES and rows:
            break
        entry = pictures.group_entry(files, iteration)
        told[f"{path}/groups/{iteration}"] = entry | {"sheet": entry["sheet"] if data else None}
        if data:
            told[f"{path}/groups/{iteration}/sheet"] = _data(data)
        rows += [row._asdict() for row in pictures.rows_of_groups(iteration, entry)]
    return told | {f"{path}/groups": {"groups": rows, "left": 0}}


def _metrics(series: Series) -> dict[str, Any]:
    """All columns, a row for each iteration or, of a long run, for the mean of `every` so many."""
    every = max(1, -(-series.rows // MOST_ROWS))
    columns = {
        name: [_mean(column[start : start + every]) for start in range(0, series.rows, every)]
        for name, column in sorted(series.columns.items())
    }
    return {"start": 0, "rows": -(-series.rows // every), "every": every, "columns": columns}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{sum(known) / len(known):.{DIGITS}g}") if known else None


def _spread(items: list[Any], count: int) -> list[Any]:
    """The first, the last and others between them at even steps."""
    if len(items) <= count:
        return items
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


def _data(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _icon() -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode((bundle.STATIC / 'icon.svg').read_bytes()).decode()}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
