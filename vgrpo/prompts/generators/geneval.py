"""Prompts of GenEval's six tasks (arXiv:2310.11513) with the metadata that its judge reads: fresh ones to train on.

A prompt is drawn by task, classes, colours, counts and relations; one of the benchmark's is drawn again. Shares of the
tasks in training are those published for Flow-GRPO (arXiv:2505.05470) and V-GRPO (arXiv:2604.23380); single objects have none,
and could not: the benchmark asks for all 80.
"""

import random
from functools import partial
from typing import Any

from vgrpo.core.types import Prompt
from vgrpo.prompts.splits import draw_fresh

CLASSES = tuple(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,bird,"
    "cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,"
    "sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,"
    "toilet,tv,laptop,computer mouse,tv remote,computer keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,"
    "clock,vase,scissors,teddy bear,hair drier,toothbrush".split(",")
)
"""COCO's 80, in its order; three get a word more, without which a prompt would not be clear."""
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NUMBERS = ("two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")
SHARES = {"position": 7, "counting": 5, "color_attr": 3, "colors": 1, "two_object": 1}
PLURALS = {"person": "people", "sheep": "sheep", "skis": "skis", "scissors": "scissors", "broccoli": "broccoli"}
UNCOUNTED = ("skis", "scissors", "broccoli")  # one or many look alike, or are called alike


def sample_prompt(rng: random.Random, tag: str) -> Prompt:
    """A prompt of one task with its metadata: `tag`, `include` and, for counting, `exclude`."""
    text, include = SAMPLERS[tag](rng)
    metadata: dict[str, Any] = {"tag": tag, "include": include, "prompt": f"a photo of {text}"}
    if tag == "counting":  # no more than asked for
        metadata["exclude"] = [{"class": include[0]["class"], "count": include[0]["count"] + 1}]
    return Prompt(text=metadata["prompt"], metadata=metadata)


def _one(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    name = rng.choice(CLASSES)
    return article(name), [{"class": name, "count": 1}]


def _two(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    names = rng.sample(CLASSES, 2)
    return " and ".join(map(article, names)), [{"class": name, "count": 1} for name in names]


def _counting(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    name = rng.choice([name for name in CLASSES if name not in UNCOUNTED])
    count = rng.randrange(len(NUMBERS))
    return f"{NUMBERS[count]} {plural(name)}", [{"class": name, "count": count + 2}]


def _colors(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    name, color = _colored(rng, 1)[0]
    return article(f"{color} {name}"), [{"class": name, "count": 1, "color": color}]


def _position(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    first, second = rng.sample(CLASSES, 2)
    relation = rng.choice(RELATIONS)
    text = f"{article(second)} {relation} {article(first)}"
    return text, [{"class": first, "count": 1}, {"class": second, "count": 1, "position": [relation, 0]}]


def _color_attr(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    pairs = _colored(rng, 2)
    text = " and ".join(article(f"{color} {name}") for name, color in pairs)
    return text, [{"class": name, "count": 1, "color": color} for name, color in pairs]


def _colored(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Distinct classes with distinct colours. Nobody paints a person, and an orange is orange."""
    names = rng.sample([name for name in CLASSES if name not in ("person", "orange")], count)
    return list(zip(names, rng.sample(COLORS, count), strict=True))


SAMPLERS = {
    "single_object": _one,
    "two_object": _two,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
}


def article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    if name in PLURALS:
        return PLURALS[name]
    if name.endswith("knife"):
        return name.removesuffix("fe") + "ves"
    if name.endswith("mouse"):
        return name.removesuffix("ouse") + "ice"
    return name + ("es" if name.endswith(("s", "sh", "ch", "x")) else "s")


def training_set(count: int, seed: int, known: frozenset[str] = frozenset(), held_out: bool = False) -> list[Prompt]:
    """`count` prompts in the published shares, none of them the benchmark's or among the `known` keys. There are 231 ways to
    count things, so prompts of that task come more than once. Raises ValueError if a task has none left."""
    rng = random.Random(seed)
    chosen: list[Prompt] = []
    for tag in rng.choices(list(SHARES), list(SHARES.values()), k=count):
        prompt = draw_fresh(partial(sample_prompt, rng, tag), known, held_out)
        if prompt is None:
            raise ValueError(f"every prompt of the task {tag} is excluded; exclude fewer")
        chosen.append(prompt)
    return chosen
