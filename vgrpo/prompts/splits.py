"""Which generated prompts are trained on, which are held out, and which belong to a benchmark, by what they ask for."""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from vgrpo.core.seeds import seed_of
from vgrpo.core.types import Prompt

SWAPPED = {"right of": "left of", "below": "above"}
TEST_FILE = Path(__file__).with_name("geneval_test.txt")
NUM_TRIES = 1000


def key(prompt: Prompt) -> str:
    """A short hash of what is asked for: by GenEval's metadata where there are, in whatever order or words, else the text."""
    metadata = prompt.metadata
    content = _asked(metadata) if "include" in metadata and "tag" in metadata else prompt.text
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _asked(metadata: dict[str, Any]) -> list[Any]:
    include = metadata["include"]
    parts = [[entry["class"], entry["count"], entry.get("color")] for entry in include]
    placed = next((entry for entry in include if "position" in entry), None)
    if placed is None:
        return [metadata["tag"], sorted(parts, key=str)]
    relation, other = placed["position"]
    ends = [placed["class"], include[other]["class"]]
    if relation in SWAPPED:  # a cat right of a dog is a dog left of a cat
        relation, ends = SWAPPED[relation], ends[::-1]
    return [metadata["tag"], relation, ends]


@cache
def benchmark_keys() -> frozenset[str]:
    """Of the 553 prompts of GenEval's benchmark (arXiv:2310.11513, its evaluation_metadata.jsonl)."""
    return frozenset(TEST_FILE.read_text().split())


def split_off(prompts: list[Prompt], count: int) -> tuple[list[Prompt], list[Prompt]]:
    """A user's prompts to train on, and `count` of their `units` held out, each in their own order. A unit is on one side
    however often it comes. Which are held out depends on the units alone, so another seed, or another stage, trains on none of
    them."""
    names = units(prompts)
    chosen = set(sorted(set(names), key=lambda name: seed_of("held out", name))[:count])
    pairs = list(zip(prompts, names, strict=True))
    held_out = {prompt.identity: prompt for prompt, name in reversed(pairs) if name in chosen}
    return [prompt for prompt, name in pairs if name not in chosen], list(reversed(held_out.values()))


def units(prompts: list[Prompt]) -> list[str]:
    """What is held out as a whole: each prompt's text, or where there are more source images than texts, its image's name."""
    texts, images = [prompt.text for prompt in prompts], [prompt.image.name if prompt.image else "" for prompt in prompts]
    return images if len(set(images)) > len(set(texts)) else texts


def is_held_out(prompt_key: str) -> bool:
    """One in eight, whatever file or seed a prompt comes from."""
    return int(prompt_key[0], 16) < 2


def draw_fresh(draw: Callable[[], Prompt], known: frozenset[str], held_out: bool) -> Prompt | None:
    """A prompt of the wanted side, neither the benchmark's nor among the `known` keys; None if there seems to be none."""
    for _ in range(NUM_TRIES):
        prompt = draw()
        prompt_key = key(prompt)
        if is_held_out(prompt_key) == held_out and prompt_key not in known and prompt_key not in benchmark_keys():
            return prompt
    return None
