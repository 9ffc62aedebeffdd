"""Prompts of the sprites world: seven kinds of fact, several phrasings each, in GenEval's JSON-lines format
(arXiv:2310.11513), split into training and held-out prompts by what they say rather than by how they say it.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vgrpo.core.types import Prompt
from vgrpo.worlds.sprites.art import SPRITES
from vgrpo.worlds.sprites.render import COLORS

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr", "text")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = ("one", "two", "three", "four", "five", "six")
HELD_OUT_SHARE = 0.1
COLORED_POSITION_SHARE = 0.4
RANDOM_WORD_SHARE = 0.5

WORDS = """
ACE ADD AGE AIM AIR ANT APE ARM ASK AXE BAD BAG BAND BANK BAT BED BEE BELL BIG BIRD BIT BOLD BONE BOOK BOW BOX BOY BUS
CAB CALM CAKE CAMP CAN CAP CAT CITY COAL COD COW CUB CUP DAY DEN DESK DIG DOCK DOG DOVE DRUM DUCK EGG ELF END EYE
FAN FARM FIG FLAG FLY FOG FOX FROG GAME GAS GEM GIFT GOLD GUM GYM HAM HAND HILL HOP HUG ICE INK JAM JAR JAZZ JOB JOY
KID KING KIT KIWI LAB LAMP LEG LID LION LIP LOG MAP MAY MILK MIX MOP MUD NAP NEST NET NEW NUT OAK OIL OLD OWL PAN PEN
PIE PIG PINK PLUM POD POT QUIZ RAG RAIN RED RIB RICE ROAD ROCK RUN SAD SAND SEA SHOE SHY SILK SKI SKY SNOW SUN SWAN TAG
TAXI TEA TEN TIN TIP TOY TUB USE VAN VASE VEIL VET WAX WEB WET WIG WIN WOLF YAK YAM YES ZEN ZIP ZOO
""".split()

PHRASINGS: dict[str, tuple[str, ...]] = {
    "single_object": ("a {a}", "one {a}", "a picture of a {a}", "a {a} on a board"),
    "two_object": ("a {a} and a {b}", "a {a} next to a {b}", "a {a} with a {b}", "a picture of a {a} and a {b}"),
    "counting": ("{n} {a}", "exactly {n} {a}", "a picture of {n} {a}", "{n} {a} on a board"),
    "colors": ("a {a}", "a picture of a {a}", "one {a}", "a {a} on a board"),
    "position": ("a {a} {r} a {b}", "a picture of a {a} {r} a {b}", "one {a} {r} one {b}"),
    "color_attr": ("a {a} and a {b}", "a {a} next to a {b}", "a {a} with a {b}", "a picture of a {a} and a {b}"),
    "text": ('the word "{w}"', 'a sign with the word "{w}"', 'a picture of the word "{w}"', 'the text "{w}"'),
}


def plural(name: str) -> str:
    return name if name == "fish" else name + "s"


def is_held_out(composition: tuple[Any, ...]) -> bool:
    """Whether a composition (what a prompt says) belongs to the held-out tenth; stable over machines and versions."""
    digest = hashlib.blake2b(repr(composition).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32 < HELD_OUT_SHARE


def sample_prompt(rng: random.Random, tag: str, *, held_out: bool = False) -> Prompt:
    """One random prompt of a tag from the training or the held-out split."""
    while True:
        prompt, composition = _BUILDERS[tag](rng)
        if is_held_out((tag, *composition)) == held_out:
            return prompt


def prompt_stream(rng: random.Random, *, held_out: bool = False, tags: Sequence[str] = TAGS) -> Iterator[Prompt]:
    """Prompts without end, the tags in turn."""
    while True:
        yield from (sample_prompt(rng, tag, held_out=held_out) for tag in tags)


def held_out_prompts(num_per_tag: int, seed: int = 0, tags: Sequence[str] = TAGS) -> list[Prompt]:
    """The fixed evaluation set: `num_per_tag` distinct held-out prompts of every tag (fewer where the tag has fewer)."""
    prompts: list[Prompt] = []
    for tag in tags:
        rng = random.Random(f"held-out {tag} {seed}")
        chosen = {prompt.text: prompt for prompt in (sample_prompt(rng, tag, held_out=True) for _ in range(20 * num_per_tag))}
        prompts += list(chosen.values())[:num_per_tag]
    return prompts


_Built = tuple[Prompt, tuple[Any, ...]]


def _prompt(rng: random.Random, tag: str, include: list[dict[str, Any]], words: dict[str, str], **extra: Any) -> Prompt:
    text = re.sub(r"\ba (?=[aeiou])", "an ", rng.choice(PHRASINGS[tag]).format(**words))
    return Prompt(text=text, metadata={"tag": tag, "include": include, **extra, "prompt": text})


def _single(rng: random.Random) -> _Built:
    name = rng.choice(list(SPRITES))
    prompt = _prompt(rng, "single_object", [{"class": name, "count": 1}], {"a": name})
    # Holding a sprite out altogether would hide it from training, so here the phrasing is part of the composition.
    return prompt, (name, prompt.text)


def _two(rng: random.Random) -> _Built:
    a, b = rng.sample(list(SPRITES), 2)
    include = [{"class": a, "count": 1}, {"class": b, "count": 1}]
    return _prompt(rng, "two_object", include, {"a": a, "b": b}), tuple(sorted((a, b)))


def _counting(rng: random.Random) -> _Built:
    name, count = rng.choice(list(SPRITES)), rng.randint(1, len(NUMBERS))
    words = {"n": NUMBERS[count - 1], "a": name if count == 1 else plural(name)}
    exclude = [{"class": name, "count": count + 1}]
    return _prompt(rng, "counting", [{"class": name, "count": count}], words, exclude=exclude), (name, count)


def _colors(rng: random.Random) -> _Built:
    name, color = rng.choice(list(SPRITES)), rng.choice(COLORS)
    include = [{"class": name, "count": 1, "color": color}]
    return _prompt(rng, "colors", include, {"a": f"{color} {name}"}), (color, name)


def _position(rng: random.Random) -> _Built:
    a, b = rng.sample(list(SPRITES), 2)
    relation = rng.choice(RELATIONS)
    include: list[dict[str, Any]] = [  # as in GenEval, the object that the relation speaks of comes second
        {"class": b, "count": 1},
        {"class": a, "count": 1, "position": [relation, 0]},
    ]
    words = {"a": a, "b": b, "r": relation}
    composition: tuple[str, ...] = (a, relation, b)
    if rng.random() < COLORED_POSITION_SHARE:
        colors = rng.sample(COLORS, 2)
        for item, color in zip(reversed(include), colors, strict=True):
            item["color"] = color
        words |= {"a": f"{colors[0]} {a}", "b": f"{colors[1]} {b}"}
        composition = (colors[0], a, relation, colors[1], b)
    return _prompt(rng, "position", include, words), composition


def _color_attr(rng: random.Random) -> _Built:
    (a, b), (c, d) = rng.sample(list(SPRITES), 2), rng.sample(COLORS, 2)
    include = [{"class": a, "count": 1, "color": c}, {"class": b, "count": 1, "color": d}]
    return _prompt(rng, "color_attr", include, {"a": f"{c} {a}", "b": f"{d} {b}"}), tuple(sorted(((c, a), (d, b))))


def _text(rng: random.Random) -> _Built:
    word = rng.choice(WORDS)
    if rng.random() < RANDOM_WORD_SHARE:
        word = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(2, 4)))
    return _prompt(rng, "text", [], {"w": word}, text=word), (word,)


_BUILDERS: dict[str, Callable[[random.Random], _Built]] = {
    "single_object": _single,
    "two_object": _two,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
    "text": _text,
}
