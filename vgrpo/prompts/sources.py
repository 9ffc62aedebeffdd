"""Prompts for training and evaluation: a world's own, or a user's file."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from functools import lru_cache

from vgrpo.core.seeds import seed_of
from vgrpo.core.types import Prompt
from vgrpo.prompts.clean import clean_prompt
from vgrpo.prompts.files import read_prompts
from vgrpo.support.checks import require
from vgrpo.support.numbers import plain_number
from vgrpo.worlds.base import World
from vgrpo.worlds.registry import find_world

PromptSource = Callable[[int, int], list[Prompt]]
"""(iteration, count) to that iteration's prompts, the same whenever it is asked."""


def from_list(prompts: list[Prompt], seed: int) -> PromptSource:
    """Passes over a list, each in a new order."""

    @lru_cache(maxsize=2)  # an iteration may end one pass and begin the next
    def order(epoch: int) -> list[int]:
        return random.Random(seed_of(seed, "prompt order", epoch)).sample(range(len(prompts)), len(prompts))

    def draw(iteration: int, count: int) -> list[Prompt]:
        places = (divmod(position, len(prompts)) for position in range(iteration * count, (iteration + 1) * count))
        return [prompts[order(epoch)[index]] for epoch, index in places]

    return draw


def from_tags(prompts: list[Prompt], shares: tuple[str, ...], seed: int) -> PromptSource:
    """Draw a task by its share, `tag=number`, then one of the prompts whose metadata has that `tag`.

    Raises ValueError for a share that is none, or for a tag that no prompt has.
    """
    by_tag: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_tag.setdefault(str(prompt.metadata.get("tag")), []).append(prompt)
    weights = shares_of(shares)
    for tag in weights:
        if tag not in by_tag:
            raise ValueError(f"prompt_shares {tag}=: no prompt has the tag {tag!r}; there are {', '.join(by_tag)}")

    def draw(iteration: int, count: int) -> list[Prompt]:
        rng = random.Random(seed_of(seed, "prompts", iteration))
        return [rng.choice(by_tag[tag]) for tag in rng.choices(list(weights), list(weights.values()), k=count)]

    return draw


def shares_of(shares: tuple[str, ...]) -> dict[str, float]:
    """Shares by tag, of `tag=number`. Raises ValueError for what is none, or for a tag that comes twice."""
    weights: dict[str, float] = {}
    for share in shares:
        tag, _, text = share.rpartition("=")
        number = plain_number(text)
        if not tag or number is None or not 1e-6 <= number <= 1e6:
            raise ValueError(f"prompt_shares {share}: give a tag and a number from 1e-6 to 1e6, e.g. {tag or 'counting'}=7")
        if tag in weights:
            raise ValueError(f"prompt_shares {share}: the tag {tag!r} comes twice; give it once")
        weights[tag] = float(number)
    return weights


def from_world(world: World, tags: Sequence[str], seed: int) -> PromptSource:
    """Fresh training prompts of a world, the kinds in turn."""

    def draw(iteration: int, count: int) -> list[Prompt]:
        rng = random.Random(seed_of(seed, "prompts", iteration))
        places = range(iteration * count, (iteration + 1) * count)
        return [clean_prompt(world.draw_prompt(rng, tags[place % len(tags)]), f"the {world.name} world") for place in places]

    return draw


def from_tasks(sources: dict[str, PromptSource], shares: dict[str, float]) -> PromptSource:
    """Prompts of several tasks by their shares, evenly mixed; each task's own come in its source's order, none left out."""
    order: list[tuple[str, int]] = []
    taken = dict.fromkeys(sources, 0)

    def draw(iteration: int, count: int) -> list[Prompt]:
        while len(order) < (iteration + 1) * count:
            task = min(sources, key=lambda name: (taken[name] + 1) / shares[name])
            order.append((task, taken[task]))
            taken[task] += 1
        places = order[iteration * count : (iteration + 1) * count]
        return [dataclasses.replace(sources[task](place, 1)[0], task=task) for task, place in places]

    return draw


def from_memory(items: Sequence[str | Prompt]) -> list[Prompt]:
    """A user's own texts or prompts, checked as those of a file are. Raises ValueError if there are none."""
    require(len(items) > 0, "prompts is empty; give at least one")
    prompts = [Prompt(text=item) if isinstance(item, str) else item for item in items]
    return [clean_prompt(prompt, f"prompts, number {number}") for number, prompt in enumerate(prompts, 1)]


def training_prompts(name: str, seed: int, shares: tuple[str, ...] = (), *, sources: bool = True) -> PromptSource:
    """From a world's name or a file. Raises ValueError or FileNotFoundError for what is neither."""
    found = find_world(name)
    if found is None:
        return from_listed(read_prompts(name, sources=sources), shares, seed)
    require(not shares, f"prompt_shares={shares}: shares need a file of prompts")
    return from_world(*found, seed)


def from_listed(prompts: list[Prompt], shares: tuple[str, ...], seed: int) -> PromptSource:
    return from_tags(prompts, shares, seed) if shares else from_list(prompts, seed)


def held_out_name(prompts: str, eval_prompts: str | None) -> str | None:
    """Where held-out prompts come from: the given file, or the world for runs on its prompts."""
    return eval_prompts or (prompts if find_world(prompts) else None)


def evaluation_prompts(name: str | None, count: int, *, sources: bool = True) -> list[Prompt]:
    """Held-out prompts, evenly over their tags; a file is read in its own order."""
    if name is None or count == 0:
        return []
    found = find_world(name)
    if found is None:
        return read_prompts(name, sources=sources)[:count]
    world, tags = found
    return [clean_prompt(p, f"the {world.name} world") for p in world.held_out_prompts(max(1, count // len(tags)), tags)]
