"""report.html: the curves and the pictures of a run in one file that opens offline."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgrpo.pages.charts import curve
from vgrpo.pages.page import shown, write_page
from vgrpo.pages.run_files import KB, RunFiles, draws_hard_pixels, number, table
from vgrpo.pages.thumbnails import thumbnail
from vgrpo.support.files import refused
from vgrpo.support.secrets import redact

CURVES = {
    "reward/mean": "reward as it is trained on, with its weights, mean over the images of an iteration",
    "grad_norm": "gradient norm",
    "surrogate/cv_within": "variation of the surrogate inside groups",
    "reward/zero_std_groups": "share of groups without signal",
}
PARTS = {
    re.compile(r"reward/(.+)/mean"): "before its weight",
    re.compile(r"task/(.+)/mean"): "what is trained on in this task",
    re.compile(r"monitor/(.+)"): "watched and not trained on",
}
MOST_PARTS, MOST_CATEGORIES, MOST_ROWS, MOST_NOTES = 40, 200, 100, 20  # beyond which a page would be of no use
MOST_TEXT = 500  # characters of a prompt or a name
SIDE = 256  # pixels of a sample picture


def write_report(folder: Path) -> Path:
    """Write report.html from what lies in a run's folder; returns its path. What cannot be shown is named in it.

    Raises FileNotFoundError if that is no run.
    """
    for name in ("metrics.jsonl", "config.yaml"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not a run's folder: it holds no {name}")
    files = RunFiles(folder)
    text, settings = files.settings()
    metrics, evaluation = files.metrics(), files.evaluation()
    hard_pixels = draws_hard_pixels(settings)
    objective = _short(table(settings.get("objective")).get("name", "an unknown algorithm"))
    body = [
        _tiles(metrics, evaluation),
        _scores(evaluation),
        "<h2>Curves</h2><p class=lead>By iteration: in grey each one, in blue their moving average.</p><div class=curves>",
        *_curves(metrics),
        "</div>",
        *_pictures(files, hard_pixels),
        *_steered(files),
        f"<h2>Settings</h2><pre>{shown(text)}</pre>",
    ]
    head = f"<h1>{_short(files.root.name)}</h1><p class=lead>{objective}, {len(metrics)} iterations</p>"
    try:
        return write_page(folder / "report.html", "vgrpo report", [head, _notes(files.notes), *body])
    except OSError as error:
        if error.errno is None:
            raise
        why = refused(error, folder / "report.html", "The run's own files are as they were.", "give the same command again")
        raise OSError(why) from error


def _short(value: object) -> str:
    """A text of the folder's as HTML."""
    text = redact(str(value) if isinstance(value, str | int | float | None) else type(value).__name__)  # before it is cut
    return shown(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…")


def _notes(notes: list[str]) -> str:
    if not notes:
        return ""
    more = f"<br>and {len(notes) - MOST_NOTES} more" if len(notes) > MOST_NOTES else ""
    return f"<p class=down>Not all is shown.<br>{'<br>'.join(map(_short, notes[:MOST_NOTES]))}{more}</p>"


def _curves(metrics: list[dict[str, float]]) -> Iterator[str]:
    """Charts of the metrics that there are, those of the single rewards, of tasks and of monitors among them."""
    names = dict.fromkeys(name for line in metrics for name in line)
    parts = {
        name: f"{match.group(1)[:MOST_TEXT]}, {text}"
        for pattern, text in PARTS.items()
        for name in names
        if (match := pattern.fullmatch(name))
    }
    for name, title in (CURVES | dict(list(parts.items())[:MOST_PARTS])).items():
        values = [line[name] for line in metrics if name in line]
        if values:
            yield curve(title, values)


def _tiles(metrics: list[dict[str, float]], evaluation: dict[str, Any]) -> str:
    tiles = []
    base, tuned = table(evaluation.get("base")), table(evaluation.get("tuned"))
    if tuned:
        metric = _metrics_of(base)[0]
        tiles.append((f"{_score(base.get(metric))} → {_score(tuned.get(metric))}", f"held-out {metric} score"))
    timed = [line for line in metrics if {"seconds/total", "images_per_second"} <= line.keys()]
    if timed:
        seconds = sum(line["seconds/total"] for line in timed)
        tiles += [
            (f"{seconds / 60:.1f} min", "training"),
            (f"{sum(line['images_per_second'] * line['seconds/total'] for line in timed):,.0f}", "images judged"),
            (f"{seconds / len(timed):.2f} s", "per iteration"),
        ]
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{b}</b><span>{s}</span></div>" for b, s in tiles) + "</div>"


def _metrics_of(scores: dict[str, Any]) -> list[str]:
    """Strict scores stand first where there are any; older files hold null where there are none."""
    return ["reward"] if scores.get("strict") is None else ["strict", "reward"]


def _score(value: object) -> str:
    known = number(value)
    return "failed" if known is None else f"{known:.3f}"


def _scores(evaluation: dict[str, Any]) -> str:
    base, tuned = table(evaluation.get("base")), table(evaluation.get("tuned"))
    if not tuned:
        return ""
    before, after = table(base.get("by_category")), table(tuned.get("by_category"))
    rows = [(name, table(before[name]), table(after.get(name))) for name in list(before)[:MOST_CATEGORIES]]
    rows.append(("all", base, tuned))
    metrics = _metrics_of(base)
    head = "".join(f"<th>{metric} before<th>after<th>change" for metric in metrics)
    lines = [
        f"<tr><td>{_short(name)}{''.join(_cells(old.get(metric), new.get(metric)) for metric in metrics)}"
        for name, old, new in rows
    ]
    counts = [_short(evaluation.get(name)) for name in ("num_prompts", "num_images")]
    count = f"{counts[0]} prompts, {counts[1]} images, the same noise before and after"
    return f"<h2>Held-out scores</h2><p class=lead>{count}</p><table><tr><th>{head}{''.join(lines)}</table>"


def _cells(before: object, after: object) -> str:
    """A score before and after, and its change where both are numbers."""
    old, new = number(before), number(after)
    change = "<td>" if old is None or new is None else f"<td class={'up' if new >= old else 'down'}>{new - old:+.3f}"
    return f"<td>{_score(before)}<td>{_score(after)}{change}"


def _steered(files: RunFiles) -> Iterator[str]:
    """What was asked of the run while it went on."""
    lines = files.steered()
    if not lines:
        return
    yield "<h2>Steered</h2><table><tr><th>after iteration<th>request<th>note"
    for line in lines[:MOST_ROWS]:
        value = number(line.get("value"))
        request = _short(line.get("command")) + ("" if value is None else f" {value:g}")
        yield f"<tr><td>{_short(line.get('iteration'))}<td>{request}<td>{_short(line.get('note'))}"
    yield "</table>"


def _pictures(files: RunFiles, hard_pixels: bool) -> Iterator[str]:
    """Strips of the first and the last samples, prompt by prompt."""
    sets = files.sample_sets()
    if not sets:
        return
    prompts = files.text(f"{sets[0]}/prompts.txt", 256 * KB).split("\n")
    ends = (sets[0], sets[-1])
    verdicts = {part: files.verdicts(part) for part in ends}
    marks = (
        " A tick is a picture that the verifier calls right, a cross one that it calls wrong." if any(verdicts.values()) else ""
    )
    yield f"<h2>Before and after</h2><p class=lead>Left the base model, right the tuned one, from the same noise.{marks}</p>"
    yield "<div class=pairs>"
    for index in files.samples(sets[0])[:MOST_ROWS]:
        prompt = redact(prompts[index])[:MOST_TEXT] if index < len(prompts) else ""
        yield f"<p>{shown(prompt)}</p>"
        for part in ends:
            pictures = files.strip(f"{part}/{index:02d}.png")
            row = dict(enumerate(verdicts[part])).get(index, [])[: len(pictures)]
            yield thumbnail(pictures, prompt, SIDE, verdicts=row, hard_pixels=hard_pixels) if pictures else "<span></span>"
    yield "</div>"
