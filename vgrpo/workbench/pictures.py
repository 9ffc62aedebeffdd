"""Sample pictures and training groups of a run: thumbnails in sheets, and single pictures, always encoded anew.

A page is sent pixels and nothing else of a file. Sheets are kept in the cache under the stamps of what they were made of.
"""

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from vgrpo.pages.run_files import KB, RunFiles, number, table
from vgrpo.pages.run_files import NUM_IMAGES as NUM_IMAGES
from vgrpo.support.files import whole
from vgrpo.workbench.index import GroupRow, Index
from vgrpo.workbench.runs import Run, shown

SIDE = 128
"""Pixels of a thumbnail's height at most."""
MOST_PROMPTS = 100
"""Rows of a sheet of samples."""
MOST_GROUPS, MOST_MEMBERS, MOST_NAMES, MOST_BOXES = 64, 64, 40, 64
MOST_READ = 100
"""Files of groups that one request reads into the index."""
MOST_OF_JPEG = 65_500
"""Pixels of a side."""
SET, GROUPS_FILE = re.compile(r"\d{6,9}"), re.compile(r"(\d{6,9})\.json")


def sample_sets(files: RunFiles) -> list[str]:
    """The iterations with sample pictures, in order, as their folders are called. The newest counts once its prompts.txt is
    there, which a run writes last."""
    found = [name.removeprefix("samples/") for name in files.sample_sets() if SET.fullmatch(name.removeprefix("samples/"))]
    return found[:-1] if found and files.stamp(f"samples/{found[-1]}/prompts.txt") is None else found


def prompts_of(files: RunFiles, part: str) -> list[str]:
    lines = files.text(f"samples/{part}/prompts.txt", 256 * KB).split("\n")
    return [shown(line) for line in lines[:MOST_PROMPTS]]


def sample_entry(files: RunFiles, part: str) -> dict[str, Any]:
    """A set's pictures with their scores, where there are any."""
    content = files.mapping(f"samples/{part}/scores.json")
    return {
        "set": part,
        "iteration": int(part),
        "pictures": files.samples(f"samples/{part}")[:MOST_PROMPTS],
        "rewards": [shown(name) for name in _list(content.get("rewards"))],
        "reward": _rows_of(content.get("reward")),
        "parts": [_rows_of(row) for row in _list(content.get("parts"))],
        "strict": _rows_of(content.get("strict")),
        "tags": [shown(tag) for tag in _list(content.get("tags"))],
        "monitors": {shown(name): _rows_of(rows) for name, rows in list(table(content.get("monitors")).items())[:MOST_NAMES]},
        "found": _found(content.get("found"), lambda row: [_boxes(image) for image in _list(row)]),
        "stamp": _stamp_of_set(files, part),
    }


def sample_sheet(files: RunFiles, part: str, cache: Path) -> bytes:
    """A set's strips below one another as a PNG or JPEG. A picture that cannot be read is left grey."""
    path = cache / f"{_stamp_of_set(files, part)}.sheet"
    if path.is_file():
        return path.read_bytes()
    data = made_sheet(files, part, SIDE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as draft:
        draft.write_bytes(data)
    return data


def made_sheet(files: RunFiles, part: str, side: int) -> bytes:
    """The same with thumbnails of at most `side` pixels, kept nowhere."""
    indices = files.samples(f"samples/{part}")[:MOST_PROMPTS]
    strips: list[Image.Image | None] = []
    cell: tuple[int, int] | None = None
    for index in indices:  # each made small at once: in full, a hundred strips are gigabytes
        strip = files.picture(f"samples/{part}/{index:02d}.png")
        if strip is not None:
            cell = cell or _cell(*strip.size, side)
            size = cell[0] * NUM_IMAGES, cell[1]
            strip = strip if strip.size == size else strip.resize(size, Image.Resampling.BOX)
        strips.append(strip)
    cell = cell or (side, side)
    sheet = Image.new("RGB", (cell[0] * NUM_IMAGES, cell[1] * max(1, len(strips))), (128, 128, 128))
    for row, strip in enumerate(strips):
        if strip is not None:
            sheet.paste(strip, (0, row * cell[1]))
    return encoded(sheet, hard=cell[1] < SIDE)


def sample_picture(files: RunFiles, part: str, index: int, member: int) -> bytes | None:
    """One picture in full; None where there is none."""
    strip = files.picture(f"samples/{part}/{index:02d}.png")
    if strip is None:
        return None
    width = max(1, strip.width // NUM_IMAGES)
    return encoded(strip.crop((member * width, 0, (member + 1) * width, strip.height)), hard=strip.height <= 512)


def refresh_groups(run: Run, index: Index) -> int:
    """Read the groups of iterations that are new or have changed, the newest first and so many that nobody waits for long;
    returns how many iterations are left."""
    files = run.files()
    there = _groups_stamps(files)
    known = index.stamps(run.id)
    changed = sorted((iteration for iteration, stamp in there.items() if known.get(iteration) != stamp), reverse=True)
    new = {iteration: there[iteration] for iteration in changed[:MOST_READ]}
    if gone := known.keys() - there.keys():
        index.forget_groups(run.id, gone)
    if new:
        rows = [row for iteration in new for row in rows_of_groups(iteration, group_entry(files, iteration))]
        index.keep_groups(run.id, new, rows)
    return len(changed) - len(new)


def group_iterations(files: RunFiles) -> list[int]:
    """Those of which groups were kept, in order."""
    return sorted(_groups_stamps(files))


def group_entry(files: RunFiles, iteration: int) -> dict[str, Any]:
    """The groups that were kept of an iteration, every image from best to worst; empty where there are none."""
    content = files.mapping(f"groups/{iteration:06d}.json")
    cell = [int(side) if (side := number(value)) and 0 < side <= 4096 else 1 for value in (*_list(content.get("cell")), 1, 1)]
    return {
        "iteration": iteration,
        "cell": cell[:2],
        "rewards": [shown(name) for name in _list(content.get("rewards"))],
        "num_groups": number(content.get("num_groups")),
        "sheet": files.stamp(f"groups/{iteration:06d}.jpg"),
        "groups": [_group(table(group)) for group in _list(content.get("groups"))[:MOST_GROUPS]],
    }


def group_sheet(files: RunFiles, iteration: int) -> bytes | None:
    picture = files.picture(f"groups/{iteration:06d}.jpg")
    return None if picture is None else encoded(picture, hard=False)


def encoded(picture: Image.Image, *, hard: bool) -> bytes:
    data = io.BytesIO()
    if hard or max(picture.size) > MOST_OF_JPEG:
        picture.save(data, "PNG", compress_level=1)
    else:
        picture.save(data, "JPEG", quality=85)
    return data.getvalue()


def _group(content: dict[str, Any]) -> dict[str, Any]:
    columns = {name: _numbers(content.get(name))[:MOST_MEMBERS] for name in ("members", "noise", "reward", "advantage")}
    return {
        "group": number(content.get("group")),
        "prompt": shown(content.get("prompt")),
        "tag": shown(content.get("tag")),
        "parts": _rows_of(content.get("parts"))[:MOST_MEMBERS],
        "found": _found(content.get("found"), _boxes),
        "failed": [value is True for value in _list(content.get("failed"))[:MOST_MEMBERS]],
        **columns,
    }


def _found(value: object, read: Callable[[object], Any]) -> dict[str, list[Any]]:
    """What each reward saw, a row for each prompt of a set or for each member of a group."""
    return {shown(name): [read(row) for row in _list(rows)] for name, rows in list(table(value).items())[:MOST_NAMES]}


def _boxes(value: object) -> list[list[Any]]:
    """Label, left, top, right and bottom in thousandths; what is none is left out."""
    found = []
    for box in _list(value)[:MOST_BOXES]:
        sides = [side for item in _list(box)[1:] if (side := number(item)) is not None and 0 <= side <= 1000]
        if len(sides) == 4 and sides[0] < sides[2] and sides[1] < sides[3]:
            found.append([shown(box[0]), *sides])
    return found


def rows_of_groups(iteration: int, entry: dict[str, Any]) -> list[GroupRow]:
    rows = []
    for place, group in enumerate(entry["groups"]):
        known = [value for value in group["reward"] if value is not None]
        spread = (min(known), sum(known) / len(known), max(known)) if known else (None, None, None)
        rows.append(GroupRow(iteration, place, group["prompt"], *spread))
    return rows


def _groups_stamps(files: RunFiles) -> dict[int, str]:
    named = ((GROUPS_FILE.fullmatch(name), stamp) for name, stamp in files.stamps("groups").items())
    return {int(match.group(1)): stamp for match, stamp in named if match}


def _stamp_of_set(files: RunFiles, part: str) -> str:
    stamps = sorted(files.stamps(f"samples/{part}").items())
    return hashlib.blake2b(repr((str(files.root), part, SIDE, stamps)).encode(), digest_size=16).hexdigest()


def _cell(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a thumbnail, of a strip's."""
    scale = min(1.0, side / height)
    return max(1, min(4 * side, round(width / NUM_IMAGES * scale))), max(1, round(height * scale))


def _numbers(value: object) -> list[float | None]:
    """Numbers, None for anything else in their place."""
    return [number(item) for item in _list(value)]


def _rows_of(value: object) -> list[list[float | None]]:
    return [_numbers(item) for item in _list(value)]


def _list(value: object) -> list[Any]:
    return value[:1000] if isinstance(value, list) else []
