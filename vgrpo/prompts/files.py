"""Prompts from files: `.txt`, `.jsonl`, `.csv`, and what `datasets` reads."""

import csv
import io
import json
from pathlib import Path

from vgrpo.core.types import Prompt
from vgrpo.prompts.clean import clean_prompt
from vgrpo.prompts.datasets import read_dataset
from vgrpo.support.textfiles import read_text
from vgrpo.worlds.registry import WORLDS


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
    prompts = _read_csv(path) if path.suffix == ".csv" else _read_lines(path)
    if not prompts:
        raise ValueError(f"the prompt file {path} is empty; write one prompt a line")
    return prompts


def _read_lines(path: Path) -> list[Prompt]:
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")  # splitlines would also split at U+2028 within a text
    lines = [(f"{path}, line {number}", line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    read = _read_json if path.suffix == ".jsonl" else _read_text
    return [clean_prompt(read(line, where), where) for where, line in lines if line]


def _read_text(line: str, where: str) -> Prompt:
    return Prompt(text=line)


def _read_json(line: str, where: str) -> Prompt:
    try:
        values = json.loads(line)
        prompt = Prompt(text=values["prompt"], metadata=values)
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where}: not a JSON object with a `prompt`: {line[:80]}") from error
    if not isinstance(prompt.text, str):
        raise ValueError(f"{where}: `prompt` must be text in quotation marks, or leave the line out: {line[:80]}")
    return prompt


def _read_csv(path: Path) -> list[Prompt]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    prompts = []
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: no column `prompt` in its first line; its columns are {reader.fieldnames}")
        for row in reader:
            if row["prompt"]:
                prompts.append(clean_prompt(Prompt(text=row["prompt"], metadata=dict(row)), f"{path}, line {reader.line_num}"))
    except csv.Error as error:
        raise ValueError(f"{path}, after line {reader.line_num}: not CSV ({error}); is a quotation mark missing?") from error
    return prompts


def _remedy(path: Path) -> str:
    """How to come by a prompt file: those that recipes name can be drawn, all others are the user's."""
    kind = next((kind for kind in ("geneval", "ocr") if path.name in (f"{kind}.jsonl", f"{kind}-held-out.jsonl")), None)
    if kind is None:
        worlds = " or ".join(f"`{name}`" for name in WORLDS)
        return f"write your prompts there, one a line, or give {worlds}, another file, a dataset's folder or hub:owner/name"
    more = " --num 500 --held-out" if path.stem.endswith("-held-out") else ""
    return f"make it with: vgrpo prompts --kind {kind}{more} --output {path}"
