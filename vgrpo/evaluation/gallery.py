"""eval.html: scores, intervals and pictures of an evaluation in one file that opens offline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgrpo.evaluation.bootstrap import LEVEL, NUM_RESAMPLES
from vgrpo.evaluation.judged import Judged
from vgrpo.evaluation.pictures import Picture
from vgrpo.evaluation.summary import spelled
from vgrpo.pages.page import shown, write_page
from vgrpo.pages.thumbnails import decode, thumbnail

NUM_PROMPTS = 40  # with pictures
NUM_IMAGES = 4  # of a prompt
SIDE = 256  # pixels of the larger side in the page; smaller pictures stay as they are


def image_path(folder: Path, part: str, picture: Picture) -> Path:
    return folder / "images" / part / f"{picture.index:05d}_{picture.member:02d}.png"


def write_gallery(
    folder: Path,
    content: dict[str, Any],
    parts: dict[str, Judged],
    pictures: list[Picture],
    settings: dict[str, Any],
    *,
    hard_pixels: bool = False,
) -> Path:
    """Write eval.html beside eval.json; returns its path. Small pictures keep hard pixels if asked to."""
    names = list(content["intervals"])
    lead = f"{content['num_prompts']} prompts, {content['num_images']} images of each model, the same noise for both"
    rows = "".join(f"<tr><td>{shown(name)}<td>{shown(str(value))}" for name, value in settings.items())
    body = [
        f"<h1>{shown(folder.resolve().name)}</h1><p class=lead>{lead}</p>",
        f"<p>Means with {LEVEL:.0%} percentile intervals from {NUM_RESAMPLES} bootstrap resamples of the prompts, paired for "
        "the change.</p>",
        *(_table(name, content["intervals"][name], content["failed"].get(name, {})) for name in names),
        *_pictures(folder, parts, pictures, [name for name in names if name != "strict"], hard_pixels),
        f"<h2>Settings</h2><table>{rows}</table>",
    ]
    return write_page(folder / "eval.html", "vgrpo evaluation", body)


def _table(name: str, found: dict[str, Any], failed: dict[str, int]) -> str:
    """One metric, by category and overall."""
    rows = [(tag, {part: found[part]["by_category"][tag] for part in found}) for tag in found["base"]["by_category"]]
    rows.append(("overall", {part: found[part]["overall"] for part in found}))
    lines = []
    for tag, entries in rows:
        cells = "".join(f"<td{_colour(part, e)}>{spelled(e, signed=part == 'change')}" for part, e in entries.items())
        lines.append(f"<tr><td>{shown(tag)}{cells}")
    missing = ", ".join(f"{count} of {part}" for part, count in failed.items() if count)
    note = f"<p class=lead>Images on which the reward failed: {missing}</p>" if missing else ""
    head = "".join(f"<th>{part}" for part in found)
    return f"<h2>{shown(name)}</h2>{note}<table><tr><th>{head}{''.join(lines)}</table>"


def _colour(part: str, entry: dict[str, float | None]) -> str:
    """Only for a change whose interval excludes 0."""
    low, high = entry["low"], entry["high"]
    if part != "change" or low is None or high is None or low <= 0 <= high:
        return ""
    return " class=up" if low > 0 else " class=down"


def _pictures(
    folder: Path, parts: dict[str, Judged], pictures: list[Picture], names: list[str], hard_pixels: bool
) -> Iterator[str]:
    """Strips of the base and, beside it, the tuned model's images, for prompts evenly from all."""
    yield f"<h2>Pictures</h2><p class=lead>{' and '.join(parts)}, from the same noise.</p><div class=pairs>"
    for rows in _shown_rows(pictures).values():
        text = pictures[rows[0]].prompt.text
        yield f"<p>{shown(text)} <span class=lead>{_means(parts, names, rows)}</span></p>"
        for part, judged in parts.items():
            paths = [image_path(folder, part, pictures[row]) for row in rows[:NUM_IMAGES]]
            drawn = [decode(path.read_bytes()) for path in paths]
            yield thumbnail(drawn, f"{part}: {text}", SIDE, verdicts=_verdicts(judged, rows), hard_pixels=hard_pixels)
    yield "</div>"


def _verdicts(judged: Judged, rows: list[int]) -> list[float | None]:
    """The strict scores of one prompt's pictures, where there are any."""
    values = [] if judged.strict is None else judged.strict[rows[:NUM_IMAGES]].tolist()
    return [None if value != value else value for value in values]


def _shown_rows(pictures: list[Picture]) -> dict[int, list[int]]:
    """The rows of each prompt whose pictures are shown."""
    num_prompts = pictures[-1].index + 1
    count = min(NUM_PROMPTS, num_prompts)
    chosen = {index * num_prompts // count for index in range(count)}
    rows: dict[int, list[int]] = {}
    for row, picture in enumerate(pictures):
        if picture.index in chosen:
            rows.setdefault(picture.index, []).append(row)
    return rows


def _means(parts: dict[str, Judged], names: list[str], rows: list[int]) -> str:
    """Each reward of one prompt's images, before and after."""
    found = [judged.rewards[rows].double().nanmean(0).tolist() for judged in parts.values()]
    return ", ".join(
        f"{shown(name)} {' → '.join(f'{value:.3f}' for value in means)}" for name, *means in zip(names, *found, strict=True)
    )
