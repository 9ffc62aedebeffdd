"""`vgrpo prompts`: write a file of training prompts."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vgrpo.core.types import Prompt
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.generators import geneval, ocr
from vgrpo.prompts.splits import key
from vgrpo.support.checks import require

SETS: dict[str, Callable[[int, int, frozenset[str], bool], list[Prompt]]] = {
    "geneval": geneval.training_set,
    "ocr": ocr.training_set,
}


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Generate training prompts, with what a judge needs to know about them."""

    kind: Literal["geneval", "ocr"]
    """`geneval`: objects, counts, colours and positions; `ocr`: words to be written in a picture."""
    output: Path
    """The .jsonl file to write."""
    num: int = 10_000
    """Prompts to write."""
    seed: int = 0
    held_out: bool = False
    """Draw from the eighth of all prompts that is kept for evaluation and comes in no training file."""
    exclude: Path | None = None
    """A file of prompts that must not be among them either; those of GenEval's benchmark never are."""


def write_prompts(config: PromptsConfig) -> Path:
    """Raises ValueError for a number out of range, OSError for a file that is missing or cannot be written."""
    require(config.num >= 1, f"--num {config.num}: must be at least 1")
    known = frozenset(map(key, read_prompts(config.exclude))) if config.exclude else frozenset()
    prompts = SETS[config.kind](config.num, config.seed, known, config.held_out)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text("".join(json.dumps(prompt.metadata) + "\n" for prompt in prompts))
    print(f"{len(prompts)} prompts in {config.output}")
    return config.output
