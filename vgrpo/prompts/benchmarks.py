"""The prompts of benchmarks, from where their authors publish them, for those whose licence allows to pass them on."""

import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from vgrpo.core.types import Prompt
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.splits import benchmark_keys, key
from vgrpo.support.http.client import NO_ANSWER, fetch, reason_of

SECONDS = 20.0


class Benchmark(NamedTuple):
    address: str
    licence: str
    belongs: Callable[[Prompt], bool]
    """Whether a prompt that came can be the benchmark's."""


BENCHMARKS = {
    "geneval-benchmark": Benchmark(
        "https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
        "GenEval (arXiv:2310.11513), MIT licence",
        lambda prompt: key(prompt) in benchmark_keys(),
    ),
    "parti": Benchmark(
        "https://raw.githubusercontent.com/google-research/parti/main/PartiPrompts.tsv",
        "PartiPrompts (arXiv:2206.10789), Apache 2.0 licence",
        lambda prompt: "Category" in prompt.metadata,
    ),
}


def fetch_benchmark(name: str) -> list[Prompt]:
    """All prompts of a benchmark, in their own order, with what its file says of them; a category is their `tag`.

    Raises FileNotFoundError, with the address to load it from by hand, where nothing comes; ValueError where something else
    comes.
    """
    address, _, belongs = BENCHMARKS[name]
    file = address.rpartition("/")[2]
    try:
        content = fetch(urllib.request.Request(address), SECONDS)
    except NO_ANSWER as error:
        raise FileNotFoundError(
            f"--kind {name}: {address} did not come ({reason_of(error)}); load it with a browser and give {file} as it is, "
            f"--prompts {file}"
        ) from error
    with TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(content)
        prompts = read_prompts(path)
    strange = next((prompt.text for prompt in prompts if not belongs(prompt)), None)
    if strange is not None:
        raise ValueError(f"--kind {name}: {address} holds {strange[:80]!r}, which is none of the benchmark's prompts")
    for prompt in prompts:
        if "Category" in prompt.metadata:
            prompt.metadata["tag"] = prompt.metadata["Category"]
    return prompts
