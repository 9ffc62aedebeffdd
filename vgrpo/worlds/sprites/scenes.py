"""From a prompt to a board that shows it, exactly or, as captions on the web are, loosely."""

import random
from typing import Any

from vgrpo.core.types import Prompt
from vgrpo.worlds.sprites.art import SPRITES
from vgrpo.worlds.sprites.render import COLORS, EMPTY, GRID, NUM_CELLS, SHAPES, Scene

Cell = tuple[int, int]  # row, column
Object = tuple[str, str]  # shape, color


def holds(relation: str, a: Cell, b: Cell) -> bool:
    """Whether the cell `a` is e.g. "left of" the cell `b`: the named direction must be the larger offset (ties count)."""
    down, right = a[0] - b[0], a[1] - b[1]
    along, across = (right, down) if relation in ("left of", "right of") else (down, right)
    forward = along < 0 if relation in ("left of", "above") else along > 0
    return forward and abs(along) >= abs(across)


def opposite(relation: str) -> str:
    return {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[relation]


def sample_scene(prompt: Prompt, rng: random.Random, *, looseness: float = 0.0) -> Scene:
    """A random board for `prompt`. With probability `looseness` one fact of it is wrong: a count, a colour, a relation,
    a letter, an object that is missing or one that nobody mentioned."""
    meta = prompt.metadata
    loose = rng.random() < looseness
    if meta["tag"] == "text":
        return _word_scene(meta["text"], rng, loose)
    objects, relation = _objects(meta["include"], rng)
    if loose:
        relation = _loosen(objects, relation, rng)
    cells = _place(len(objects), relation, rng)
    return _scene(dict(zip(cells, objects, strict=True)))


def _objects(include: list[dict[str, Any]], rng: random.Random) -> tuple[list[Object], str | None]:
    objects, relation = [], None
    for item in include:
        objects += [(item["class"], item.get("color") or rng.choice(COLORS)) for _ in range(item["count"])]
        if "position" in item:
            relation = item["position"][0]
    return objects, relation


def _loosen(objects: list[Object], relation: str | None, rng: random.Random) -> str | None:
    """Break one fact of `objects` in place; returns the relation, flipped if that was the fact."""
    kinds = ["extra", "swap" if len({shape for shape, _ in objects}) == 2 else "color"]
    kinds += ["missing"] if len(objects) > 1 else ["shape"]
    kinds += ["flip", "flip", "flip"] if relation else []
    kind = rng.choice(kinds)
    if kind == "extra":
        known = [shape for shape, _ in objects]
        extra = rng.choice(known if rng.random() < 0.5 else list(SPRITES))
        objects += [(extra, rng.choice(COLORS)) for _ in range(rng.randint(1, 2))]
    elif kind == "missing":
        objects.pop(rng.randrange(len(objects)))
        return None
    elif kind == "swap":
        (a, c), (b, d) = objects
        objects[:] = [(a, d), (b, c)]
    elif kind == "color":
        index = rng.randrange(len(objects))
        objects[index] = (objects[index][0], rng.choice(COLORS))
    elif kind == "shape":
        objects[0] = (rng.choice(list(SPRITES)), objects[0][1])
    elif kind == "flip" and relation:
        return opposite(relation)
    return relation


def _place(count: int, relation: str | None, rng: random.Random) -> list[Cell]:
    cells = [divmod(index, GRID) for index in range(NUM_CELLS)]
    while True:
        chosen = rng.sample(cells, count)
        if relation is None or holds(relation, chosen[1], chosen[0]):
            return chosen


def _word_scene(word: str, rng: random.Random, loose: bool) -> Scene:
    """A word in one colour on one row; loosely: a wrong letter, two letters swapped, or a stray sprite."""
    kind = rng.choice(("letter", "swap", "stray")) if loose else "exact"
    letters = list(word)
    if kind == "letter":
        letters[rng.randrange(len(letters))] = rng.choice(SHAPES[len(SPRITES) :])
    elif kind == "swap":
        index = rng.randrange(len(letters) - 1)
        letters[index : index + 2] = letters[index + 1], letters[index]
    row, start = rng.randrange(GRID), rng.randint(0, GRID - len(letters))
    color = rng.choice(COLORS)
    placed: dict[Cell, Object] = {(row, start + index): (letter, color) for index, letter in enumerate(letters)}
    if kind == "stray":
        placed[(row + rng.randint(1, GRID - 1)) % GRID, rng.randrange(GRID)] = (rng.choice(list(SPRITES)), rng.choice(COLORS))
    return _scene(placed)


def _scene(placed: dict[Cell, Object]) -> Scene:
    shapes, colors = [EMPTY] * NUM_CELLS, [EMPTY] * NUM_CELLS
    for (row, col), (shape, color) in placed.items():
        shapes[row * GRID + col] = SHAPES.index(shape)
        colors[row * GRID + col] = COLORS.index(color)
    return Scene(shapes=tuple(shapes), colors=tuple(colors))
