"""Worlds by name: those that come with the package, and a user's own."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from vgrpo.core.types import Prompt
from vgrpo.support.dotted import load_dotted
from vgrpo.worlds.base import World
from vgrpo.worlds.sprites.world import SpritesWorld

WORLDS: dict[str, World] = {world.name: world for world in (SpritesWorld(),)}
OWN = re.compile(r"(?!hub:)[A-Za-z_][\w.]*:[A-Za-z_]\w*(:.*)?")


def find_world(prompts: str) -> tuple[World, tuple[str, ...]] | None:
    """The world that prompts are named after, and the kinds of them: `sprites`, `sprites:text,counting`, `my_file:MyWorld` or
    `my_file:MyWorld:kind`. None for any other name.

    Raises ValueError for a kind that the world does not have, or an own world that is none.
    """
    name, _, kinds = prompts.partition(":")
    if name in WORLDS:
        world = WORLDS[name]
    elif OWN.fullmatch(prompts) and not Path(prompts).exists():
        attribute, _, kinds = kinds.partition(":")
        world = _own(f"{name}:{attribute}")
    else:
        return None
    tags = tuple(kinds.split(",")) if kinds else world.tags
    unknown = [tag for tag in tags if tag not in world.tags]
    if unknown:
        raise ValueError(
            f"prompts {prompts}: the {world.name} world has no kind {unknown[0]!r}; its kinds are {', '.join(world.tags)}"
        )
    return world, tags


@cache
def _own(name: str) -> World:
    found = load_dotted(name, "prompts")
    try:
        world = found() if isinstance(found, type) and issubclass(found, World) else found
    except TypeError as error:
        raise ValueError(f"prompts {name}: {error}; docs/prompts.md shows a world") from error
    if not isinstance(world, World):
        raise ValueError(f"prompts {name}: not a vgrpo.worlds.base.World; docs/prompts.md shows one")
    missing = [field for field in ("name", "tags", "rewards") if not hasattr(world, field)]
    if missing:
        raise ValueError(f"prompts {name}: the world leaves out {', '.join(missing)}; docs/prompts.md shows one")
    return world


def judge_of(prompts: list[Prompt], rewards: Iterable[str], sources: Iterable[str | None] = ()) -> World | None:
    """The world whose strict scores belong beside these rewards: it knows all the prompts and one of the rewards is its own.

    `sources` are names of prompts, which may bring in a user's own world.
    """
    named = [found[0] for source in sources if source is not None and (found := find_world(source)) is not None]
    names = {reward.partition("=")[0] for reward in rewards}
    return next((w for w in (*named, *WORLDS.values()) if names.intersection(w.rewards) and w.knows(prompts)), None)


def bundled_world(name: str) -> World | None:
    """Of the worlds that come with the package, the one that prompts or a model are named after. Runs no code of a user's."""
    return WORLDS.get(name.partition(":")[0])
