"""groups/: thumbnails of some groups of every iteration with what each image scored, for a person to look at.

groups/000012.jpg is a sheet, a row for each group and its images from best to worst; groups/000012.json says which is which.

Dimensions: B images of H x W pixels, thumbnails of h x w.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from vgrpo.core.images import stills, to_pil
from vgrpo.core.types import Rollout
from vgrpo.objectives.drawing import Drawing
from vgrpo.rewards.found import boxes_on
from vgrpo.rewards.panel import Panel
from vgrpo.support.json_files import to_json
from vgrpo.training.record.events import Event, ImagesJudged

SIDE = 128
"""Pixels of a thumbnail's larger side; smaller images stay as they are."""
MOST_PIXELS = 2**17
"""Of a sheet, some 20 kB: two groups of 16 sprites, or one of 8 photographs. At least one group is kept."""
MOST_MEMBERS = 32
"""Of a group; of a larger one the best half and the worst half of so many are kept."""


class Kept(NamedTuple):
    """A group that is kept: its number in the iteration, and its rows of the rollout from best to worst."""

    group: int
    rows: list[int]


class GroupsFile:
    """Listens to a run and writes the files. The panel's rewards come in the order of the scores' columns. What a resumed run
    draws anew, from iteration `start` on, is deleted."""

    def __init__(self, folder: Path, panel: Panel, drawing: Drawing, start: int = 0) -> None:
        self.folder = folder / "groups"
        self.panel, self.drawing = panel, drawing
        for path in self.folder.glob("*.jpg") if not self.folder.is_symlink() else ():
            if path.stem.isdecimal() and int(path.stem) >= start:
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)

    def __call__(self, event: Event) -> None:
        if isinstance(event, ImagesJudged):
            self.write(event)

    def write(self, event: ImagesJudged) -> None:
        images = stills(event.rollout.images)
        cell = thumbnail_size(images)
        kept = chosen(event, count=max(1, MOST_PIXELS // _pixels_of_group(event.rollout, cell)))
        self.folder.mkdir(exist_ok=True)
        name = f"{event.iteration:06d}"
        sheet = self.folder / f"{name}.jpg"
        sheet_of(images, kept, cell).save(sheet, "JPEG", quality=85, subsampling=0)
        # Not made to last through a power cut as a checkpoint is: to wait for the disk may take longer than an iteration.
        (self.folder / f"{name}.json").write_text(to_json(self._entry(event, kept, cell)) + "\n")

    def _entry(self, event: ImagesJudged, kept: list[Kept], cell: tuple[int, int]) -> dict[str, Any]:
        return {
            "iteration": event.iteration,
            "cell": [cell[1], cell[0]],
            "rewards": self.panel.names,
            "num_groups": event.rollout.num_groups,
            "groups": [self._group(event, each) for each in kept],
        }

    def _group(self, event: ImagesJudged, kept: Kept) -> dict[str, Any]:
        prompt, first = event.rollout.prompts[kept.rows[0]], int((event.rollout.group == kept.group).nonzero()[0, 0])
        rows = torch.tensor(kept.rows)
        prompts = [event.rollout.prompts[row] for row in kept.rows]
        return {
            "group": kept.group,
            "prompt": prompt.text,
            "tag": str(prompt.metadata.get("tag", "")),
            "members": [row - first for row in kept.rows],
            "noise": [self.drawing.initial_noise(row - first) for row in kept.rows],
            "reward": event.reward[rows].tolist(),
            "parts": event.scores.values[rows].tolist(),
            "failed": event.scores.failed[rows].any(1).tolist(),
            "advantage": event.advantage.cpu()[rows].tolist(),
            "found": boxes_on(self.panel.rewards, event.rollout.images[rows.to(event.rollout.images.device)], prompts),
        }


def thumbnail_size(images: Tensor) -> tuple[int, int]:
    """(h, w) of the thumbnails of images [B, 3, H, W]."""
    height, width = images.shape[-2:]
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def chosen(event: ImagesJudged, count: int) -> list[Kept]:
    """Groups from the worst mean reward to the best, at even steps, so that hard and easy prompts are both seen."""
    group, reward = event.rollout.group.cpu(), event.reward.nan_to_num(-torch.inf)
    numbers = sorted(group.unique().tolist(), key=lambda g: float(event.reward[group == g].nanmean().nan_to_num(-torch.inf)))
    count = min(count, len(numbers))
    places = [(2 * place + 1) * len(numbers) // (2 * count) for place in range(count)]
    kept = []
    for number in (numbers[place] for place in places):
        members = (group == number).nonzero()[:, 0]
        rows = members[reward[members].argsort(descending=True, stable=True)].tolist()
        half = MOST_MEMBERS // 2
        kept.append(Kept(number, rows if len(rows) <= MOST_MEMBERS else [*rows[:half], *rows[-half:]]))
    return kept


def sheet_of(images: Tensor, kept: list[Kept], cell: tuple[int, int]) -> Image.Image:
    """A row of thumbnails for each group; a shorter one ends in black."""
    height, width = cell
    columns = max(len(each.rows) for each in kept)
    sheet = images.new_zeros(3, height * len(kept), width * columns)
    for row, each in enumerate(kept):
        thumbnails = interpolate(images[each.rows], size=cell, mode="area")
        strip = torch.cat(list(thumbnails), 2)
        sheet[:, row * height : (row + 1) * height, : strip.shape[2]] = strip
    return to_pil(sheet)


def _pixels_of_group(rollout: Rollout, cell: tuple[int, int]) -> int:
    size = max(1, len(rollout.prompts) // len(rollout.group.unique()))
    return min(size, MOST_MEMBERS) * cell[0] * cell[1]
