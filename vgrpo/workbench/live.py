"""Server-sent events: what changed in the folders of runs since a page last looked.

A run writes files and knows of no page; the server looks at their stamps. A page asks for the new rows itself, so that a slow
one misses nothing.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from vgrpo.workbench.runs import Run

EVERY = 1.0
"""Seconds between looks."""
ALIVE = 15
"""Looks after which a line is sent although nothing changed, so that a closed page is noticed."""
WATCHED = {
    "metrics": "metrics.jsonl",
    "scores": "eval.json",
    "settings": "config.yaml",
    "finished": "finished",
    "steered": "steering.jsonl",
}


def changes(run: Run, before: dict[str, str | None]) -> list[str]:
    """Which parts of a run are other than in `before`, which is brought up to date."""
    files = run.files()
    now: dict[str, str | None] = {part: files.stamp(name) for part, name in WATCHED.items()}
    newest = max(files.names("samples"), default="")
    now["samples"] = f"{newest}:{files.stamp(f'samples/{newest}/prompts.txt')}"  # which is written last
    now["groups"] = str(len(files.names("groups")))
    changed = [part for part, stamp in now.items() if part in before and before[part] != stamp]
    before.update(now)
    return changed


async def events(runs: list[Run], leaving: Callable[[], bool], every: float = EVERY) -> AsyncIterator[str]:
    """Lines of an event stream: `changed` with a run's id and the parts that changed."""
    known: dict[str, dict[str, str | None]] = {run.id: {} for run in runs}
    yield "retry: 2000\n: the first look\n\n"
    look = 0
    while not leaving():
        for run in runs:
            parts = await asyncio.to_thread(changes, run, known[run.id])
            if parts:
                yield f"event: changed\ndata: {json.dumps({'run': run.id, 'parts': parts})}\n\n"
        look += 1
        if look % ALIVE == 0:
            yield ": still here\n\n"
        await asyncio.sleep(every)
