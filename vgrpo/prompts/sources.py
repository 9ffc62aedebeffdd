"""Prompts for training and evaluation: the sprites world's own, or a user's file."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

from vgrpo.core.seeds import seed_of
from vgrpo.core.types import Prompt
from vgrpo.prompts.datasets import read_dataset
from vgrpo.support.textfiles import read_text

PromptSource = Callable[[int, int], list[Prompt]]
"""(iteration, count) to that iteration's prompts, the same whenever it is asked."""


def read_prompts(path: str | Path) -> list[Prompt]:
    """Prompts of a file: `.txt`, one a line; `.jsonl`, one object with a `prompt` a line; `.csv` or `.parquet` with a column
    `prompt`; or of a Hugging Face dataset with that column, by its folder or as `hub:owner/name`. What else there is becomes
    the prompt's metadata.

    Raises FileNotFoundError, or ValueError with the line, if there is nothing to read or a line is not what it should be.
    """
    if str(path).startswith("hub:"):
        return read_dataset(str(path))
    path = Path(path)
    if path.is_dir() or path.suffix == ".parquet":
        return read_dataset(str(path))
    if not path.is_file():
        raise FileNotFoundError(f"no prompt file {path}; {_remedy(path)}")
    if path.suffix == ".csv":
        return _read_csv(path)
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")  # splitlines would also split at U+2028 within a text
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ValueError(f"the prompt file {path} is empty; write one prompt a line")
    if path.suffix != ".jsonl":
        return [Prompt(text=line) for _, line in lines]
    return [_read_json(line, f"{path}, line {number}") for number, line in lines]


def _read_json(line: str, where: str) -> Prompt:
    try:
        values = json.loads(line)
        prompt = Prompt(text=values["prompt"], metadata=values)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not a JSON object with a `prompt`: {line[:80]}") from error
    if not isinstance(prompt.text, str):
        raise ValueError(f"{where}: `prompt` must be text in quotation marks, or leave the line out: {line[:80]}")
    return prompt


def _remedy(path: Path) -> str:
    """How to come by a prompt file: those that recipes name can be drawn, all others are the user's."""
    kind = next((kind for kind in ("geneval", "ocr") if path.name in (f"{kind}.jsonl", f"{kind}-held-out.jsonl")), None)
    if kind is None:
        return "write your prompts there, one a line, or give `sprites`, another file, a dataset's folder or hub:owner/name"
    more = " --num 500 --held-out" if path.stem.endswith("-held-out") else ""
    return f"make it with: vgrpo prompts --kind {kind}{more} --output {path}"


def _read_csv(path: Path) -> list[Prompt]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: no column `prompt` in its first line; its columns are {reader.fieldnames}")
        prompts = [Prompt(text=row["prompt"], metadata=dict(row)) for row in reader if row["prompt"]]
    except csv.Error as error:
        raise ValueError(f"{path}, after line {reader.line_num}: not CSV ({error}); is a quotation mark missing?") from error
    if not prompts:
        raise ValueError(f"the prompt file {path} is empty; write one prompt a line")
    return prompts


def from_list(prompts: list[Prompt], seed: int) -> PromptSource:
    """Passes over a list, each in a new order."""

    def draw(iteration: int, count: int) -> list[Prompt]:
        chosen = []
        for position in range(iteration * count, (iteration + 1) * count):
            epoch, index = divmod(position, len(prompts))
            order = random.Random(seed_of(seed, "prompt order", epoch)).sample(range(len(prompts)), len(prompts))
            chosen.append(prompts[order[index]])
        return chosen

    return draw


def from_tags(prompts: list[Prompt], shares: tuple[str, ...], seed: int) -> PromptSource:
    """Draw a task by its share, `tag=number`, then one of the prompts whose metadata has that `tag`.

    Raises ValueError for a share that is none, or for a tag that no prompt has.
    """
    by_tag: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_tag.setdefault(str(prompt.metadata.get("tag")), []).append(prompt)
    weights = {}
    for share in shares:
        tag, _, number = share.rpartition("=")
        if tag not in by_tag:
            raise ValueError(f"prompt_shares {share}: no prompt has the tag {tag!r}; there are {', '.join(by_tag)}")
        if not number.replace(".", "", 1).isdigit() or float(number) == 0:
            raise ValueError(f"prompt_shares {share}: give a number above 0 after the tag, e.g. {tag}=7")
        weights[tag] = float(number)

    def draw(iteration: int, count: int) -> list[Prompt]:
        rng = random.Random(seed_of(seed, "prompts", iteration))
        return [rng.choice(by_tag[tag]) for tag in rng.choices(list(weights), list(weights.values()), k=count)]

    return draw


def sprites_tags(name: str) -> tuple[str, ...] | None:
    """The kinds of prompts that `sprites` (all) or e.g. `sprites:text,counting` stands for; None for any other name.

    Raises ValueError for a kind that the world does not have.
    """
    if name.partition(":")[0] != "sprites":
        return None
    from vgrpo.worlds.sprites.grammar import TAGS

    tags = tuple(name.partition(":")[2].split(",")) if ":" in name else TAGS
    unknown = [tag for tag in tags if tag not in TAGS]
    if unknown:
        raise ValueError(f"prompts {name}: the sprites world has no kind {unknown[0]!r}; its kinds are {', '.join(TAGS)}")
    return tags


def from_sprites(tags: tuple[str, ...], seed: int) -> PromptSource:
    """Fresh training prompts of the sprites world, the kinds in turn."""
    from vgrpo.worlds.sprites.grammar import sample_prompt

    def draw(iteration: int, count: int) -> list[Prompt]:
        rng = random.Random(seed_of(seed, "prompts", iteration))
        return [sample_prompt(rng, tags[(iteration * count + index) % len(tags)]) for index in range(count)]

    return draw


def training_prompts(name: str, seed: int) -> PromptSource:
    tags = sprites_tags(name)
    return from_sprites(tags, seed) if tags else from_list(read_prompts(name), seed)


def held_out_name(prompts: str, eval_prompts: str | None) -> str | None:
    """Where held-out prompts come from: the given file, or the sprites world for runs on its prompts."""
    return eval_prompts or (prompts if sprites_tags(prompts) else None)


def evaluation_prompts(name: str | None, count: int) -> list[Prompt]:
    """Held-out prompts, evenly over their tags; a file is read in its own order."""
    if name is None or count == 0:
        return []
    tags = sprites_tags(name)
    if tags is None:
        return read_prompts(name)[:count]
    from vgrpo.worlds.sprites.grammar import held_out_prompts

    return held_out_prompts(max(1, count // len(tags)), tags=tags)
