"""What the page is told of a run: by the server when it asks, or beforehand in a report."""

from typing import Any

from vgrpo.workbench import pictures
from vgrpo.workbench.index import Index
from vgrpo.workbench.remake import command
from vgrpo.workbench.rules import diagnosis
from vgrpo.workbench.rules.base import Numbers
from vgrpo.workbench.runs import Run, flat, plain, shown
from vgrpo.workbench.steering import log_of


def run_answer(run: Run, index: Index | None = None) -> dict[str, Any]:
    """What the page of a run needs at first: settings, scores, which pictures there are."""
    files = run.files()
    (_, settings), evaluation, sets = files.settings(), files.evaluation(), pictures.sample_sets(files)
    return {
        **run.summary(index),
        "folder": shown(str(run.folder)),
        "seed": settings.get("seed") if isinstance(settings.get("seed"), int) else None,
        "settings": flat(settings),
        "evaluation": plain(evaluation),
        "sets": sets,
        "prompts": pictures.prompts_of(files, sets[0]) if sets else [],
        "steered": log_of(files),
        "notes": [shown(note) for note in files.notes[:20]],
    }


def diagnosis_answer(run: Run) -> dict[str, Any]:
    files = run.files()
    return diagnosis(Numbers(series=run.fresh_series(), settings=files.settings()[1], evaluation=files.evaluation()))


def samples_answer(run: Run, part: str) -> dict[str, Any]:
    files = run.files()
    entry = pictures.sample_entry(files, part)
    return entry | {"remake": command(run.folder, files.settings()[1], part, last=pictures.sample_sets(files)[-1])}
