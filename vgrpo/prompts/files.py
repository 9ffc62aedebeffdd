"""Prompts from files: `.txt`, `.json`, `.jsonl`, `.csv`, `.tsv`, and what `datasets` reads."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vgrpo.core.types import Prompt
from vgrpo.prompts.clean import clean_prompt
from vgrpo.prompts.columns import prompt_column, prompt_of
from vgrpo.prompts.datasets import read_dataset
from vgrpo.prompts.source_images import with_source
from vgrpo.support.json_files import parse_json
from vgrpo.support.textfiles import read_text
from vgrpo.worlds.registry import WORLDS


def read_prompts(path: str | Path, *, sources: bool = True) -> list[Prompt]:
    """Prompts of a file: `.txt`, one a line; `.jsonl`, one object a line; `.json`, a list of texts or objects; `.csv`,
    `.tsv` or `.parquet`; or of a Hugging Face dataset, by its folder or as `hub:owner/name`. The text is in the column or field
    `prompt` (or `prompts`, `caption`, `text`, in capitals or not); what else there is becomes the prompt's metadata. `image`
    names a source image, from the file's folder on. Without `sources` pictures inside a dataset stay there: a model that
    does not edit pictures has no use for the gigabytes of a captioned set.

    Raises FileNotFoundError, or ValueError with the line, if there is nothing to read, the file's kind is not known, or a line
    is not what it should be.
    """
    if str(path).startswith("hub:"):
        return read_dataset(str(path), sources=sources)
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return read_dataset(str(path), sources=sources)
    if not path.is_file():
        raise FileNotFoundError(f"no prompt file {path}; {_remedy(path)}")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"the prompt file {path} must end in {', '.join(READERS)} or .parquet; rename or convert it")
    prompts = [with_source(clean_prompt(prompt, where), path.parent, where) for prompt, where in read(path)]
    if not prompts:
        raise ValueError(f"the prompt file {path} is empty; write one prompt a line")
    return prompts


Found = Iterator[tuple[Prompt, str]]
"""Prompts, and where each stands."""


def _read_txt(path: Path) -> Found:
    for where, line in _lines(path):
        yield Prompt(text=line), where


def _read_jsonl(path: Path) -> Found:
    for where, line in _lines(path):
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}: not a JSON object with a `prompt`: {line[:80]}") from error
        yield _from_json(values, where, line[:80]), where


def _read_json(path: Path) -> Found:
    values = parse_json(read_text(path), str(path))
    if not isinstance(values, list):
        raise ValueError(f"{path}: must be a list of texts, or of objects with a `prompt`; one object a line is a .jsonl file")
    for number, value in enumerate(values, 1):
        where = f"{path}, entry {number}"
        yield Prompt(text=value) if isinstance(value, str) else _from_json(value, where, str(value)[:80]), where


def _from_json(values: Any, where: str, shown: str) -> Prompt:
    column = prompt_column(values) if isinstance(values, dict) else None
    if column is None:
        raise ValueError(f"{where}: not a JSON object with a `prompt`: {shown}")
    if not isinstance(values[column], str):
        raise ValueError(f"{where}: `{column}` must be text in quotation marks, or leave the line out: {shown}")
    return prompt_of(values, column, where)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")  # splitlines would also split at U+2028 within a text
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def _read_csv(path: Path) -> Found:
    return _read_table(path, ",", "put a text that holds a comma in quotation marks")


def _read_tsv(path: Path) -> Found:
    return _read_table(path, "\t", "a text may hold no tab")


def _read_table(path: Path, mark: str, rule: str) -> Found:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=mark)
    try:
        column = prompt_column(reader.fieldnames or ())
        if column is None:
            raise ValueError(f"{path}: no column `prompt` in its first line; its columns are {reader.fieldnames}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                num_columns = len(reader.fieldnames or ())
                raise ValueError(f"{where}: {num_columns + len(row[None])} fields for {num_columns} columns; {rule}")  # type: ignore[index]
            if row[column]:
                yield prompt_of(dict(row), column, where), where
    except csv.Error as error:
        raise ValueError(f"{path}, after line {reader.line_num}: not CSV ({error}); is a quotation mark missing?") from error


READERS: dict[str, Callable[[Path], Found]] = {
    ".txt": _read_txt,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}
KINDS = {"geneval": ".jsonl", "ocr": ".jsonl", "preference": ".txt"}
"""What `vgrpo prompts` makes, with the ending under which recipes name it."""


def _remedy(path: Path) -> str:
    """How to come by a prompt file: those that recipes name can be drawn, all others are the user's."""
    kind = next((kind for kind, ending in KINDS.items() if path.name in (kind + ending, f"{kind}-held-out{ending}")), None)
    if kind is None:
        worlds = " or ".join(f"`{name}`" for name in WORLDS)
        return f"write your prompts there, one a line, or give {worlds}, another file, a dataset's folder or hub:owner/name"
    more = " --num 500 --held-out" if path.stem.endswith("-held-out") else ""
    own = "write your prompts there, one a line, or " if kind == "preference" else ""
    return f"{own}make it with: vgrpo prompts --kind {kind}{more} --output {path}"
