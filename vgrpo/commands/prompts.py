"""`vgrpo prompts`: write a file of prompts to train on, or of a benchmark's."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vgrpo.commands.options import parse
from vgrpo.core.types import Prompt
from vgrpo.prompts.benchmarks import BENCHMARKS, fetch_benchmark
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.generators import geneval, ocr, preference
from vgrpo.prompts.splits import key
from vgrpo.support.checks import require, require_finite
from vgrpo.support.files import write_whole
from vgrpo.support.folders import require_file

SETS: dict[str, Callable[[int, int, frozenset[str], bool], list[Prompt]]] = {
    "geneval": geneval.training_set,
    "ocr": ocr.training_set,
    "preference": preference.training_set,
}

NUM_PROMPTS, MOST_PROMPTS = 10_000, 1_000_000


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Generate training prompts, with what a judge needs to know about them, or fetch a benchmark's."""

    kind: Literal["geneval", "ocr", "preference", "geneval-benchmark", "parti"]
    """`geneval`: objects, counts, colours and positions; `ocr`: words to be written in a picture; `preference`:
    pictures of any kind, for rewards that judge any. `geneval-benchmark` and `parti` (PartiPrompts) come from where their
    authors publish them, whole."""
    output: Path
    """The file to write: .jsonl with the metadata, or .txt with the texts alone."""
    num: int | None = None
    """Prompts to write; None is 10,000, and all of a benchmark."""
    seed: int = 0
    held_out: bool = False
    """Draw from the eighth of all prompts that is kept for evaluation and comes in no training file."""
    exclude: Path | None = None
    """A file of prompts that must not be among them either; those of GenEval's benchmark never are."""

    def __post_init__(self) -> None:
        require_finite(self)
        if self.num is not None:
            require(self.num >= 1, f"--num {self.num}: must be at least 1")
            require(self.num <= MOST_PROMPTS, f"--num {self.num}: must be at most {MOST_PROMPTS:,}")
        if self.kind in BENCHMARKS:
            drawn = PromptsConfig(kind="geneval", output=self.output)
            given = [name for name in ("num", "seed", "held_out", "exclude") if getattr(self, name) != getattr(drawn, name)]
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            require(not given, f"{options}: a benchmark is taken whole and as it is; leave it out with --kind {self.kind}")


def write_prompts(config: PromptsConfig) -> int:
    """Write the file and return how many prompts it holds.

    Raises ValueError for more prompts than there are, OSError for a file that is missing or cannot be written, and what
    `fetch_benchmark` raises.
    """
    require_file(config.output, "--output")
    if config.kind in BENCHMARKS:
        prompts = fetch_benchmark(config.kind)
    else:
        known = frozenset(map(key, read_prompts(config.exclude))) if config.exclude else frozenset()
        prompts = SETS[config.kind](config.num or NUM_PROMPTS, config.seed, known, config.held_out)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    alone = config.output.suffix.lower() == ".txt"
    lines = (prompt.text if alone else json.dumps(prompt.metadata) for prompt in prompts)
    write_whole(config.output, "".join(line + "\n" for line in lines))
    return len(prompts)


def run(words: list[str]) -> None:
    config = parse(PromptsConfig, words, prog="vgrpo prompts", description="Write a file of prompts.")
    written = f"{write_prompts(config)} prompts in {config.output}"
    print(f"{written}: {BENCHMARKS[config.kind].licence}" if config.kind in BENCHMARKS else written)
