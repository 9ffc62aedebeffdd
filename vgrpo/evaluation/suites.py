"""What the field reports: a suite is the rewards of a benchmark and where its prompts come from."""

from collections.abc import Callable
from dataclasses import dataclass

from vgrpo.core.types import Prompt
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.generators import ocr
from vgrpo.prompts.sources import evaluation_prompts
from vgrpo.rewards.text.ocr import quoted
from vgrpo.support.spelling import hint
from vgrpo.worlds.registry import WORLDS, find_world

PREFERENCE = ("pickscore", "hpsv2", "imagereward", "aesthetic", "clipscore")
WHOLE = 100_000  # prompts; no benchmark has more
NUM_OCR_PROMPTS, NUM_WORLD_PROMPTS = 1000, 256


@dataclass(frozen=True, kw_only=True)
class Suite:
    """`prompts` is a name that `suite_prompts` knows, or None where the user has to bring `file`."""

    reward: tuple[str, ...]
    file: str
    prompts: str | None = None
    num_prompts: int = WHOLE
    fits: Callable[[Prompt], bool] = bool
    """Whether the rewards can judge a prompt."""


SUITES: dict[str, Suite] = {
    **{
        name: Suite(reward=world.rewards[:1], prompts=name, num_prompts=NUM_WORLD_PROMPTS, file=f"prompts of the {name} world")
        for name, world in WORLDS.items()
    },
    "geneval": Suite(
        reward=("geneval_strict", "geneval"),
        file="the benchmark's JSON lines (evaluation_metadata.jsonl)",
        fits=lambda prompt: bool(prompt.metadata.get("include")),
    ),
    "ocr": Suite(
        reward=("ocr",),
        prompts="ocr",
        file="prompts with the words to write in quotation marks",
        fits=lambda prompt: bool(quoted(prompt.text)),
    ),
    "drawbench": Suite(reward=PREFERENCE, file="DrawBench's prompts, as .txt, .jsonl, .json, .csv or .tsv"),
    "preference": Suite(reward=PREFERENCE, file="the prompts to compare on, as .txt, .jsonl, .json, .csv or .tsv"),
}


def find_suite(name: str) -> Suite:
    """Raises ValueError, with the nearest name, for one that is not there."""
    if name in SUITES:
        return SUITES[name]
    raise ValueError(f"unknown suite {name!r}: {hint(name, SUITES)}")


def suite_prompts(suite: str | None, prompts: str | None, count: int, *, sources: bool = True) -> list[Prompt]:
    """At most `count` prompts, evenly from a suite's file, as files are often sorted by task; `sources` as for `read_prompts`.

    Raises ValueError if the suite needs a file that is not given, or the prompts are not what its rewards judge.
    """
    if suite is None:
        return evaluation_prompts(prompts, count, sources=sources)
    if prompts is None:
        raise ValueError(f"--suite {suite} needs --prompts FILE: {SUITES[suite].file}")
    if find_world(prompts):
        chosen = evaluation_prompts(prompts, count)
    else:
        whole = ocr.held_out_set(NUM_OCR_PROMPTS) if prompts == "ocr" else read_prompts(prompts, sources=sources)
        count = min(count, len(whole))
        chosen = [whole[index * len(whole) // count] for index in range(count)]
    unfit = [prompt.text for prompt in chosen if not SUITES[suite].fits(prompt)]
    if unfit:
        raise ValueError(f"--suite {suite} needs {SUITES[suite].file}; --prompts {prompts} holds {unfit[0]!r}")
    return chosen
