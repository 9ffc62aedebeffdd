"""Prompts that ask for words in a picture, the words in double quotes, as the `ocr` rewards expect them."""

import random
from functools import partial

from vgrpo.core.types import Prompt
from vgrpo.prompts.splits import draw_fresh

SCENES = (
    "A neon sign above a bar at night that reads {}",
    "A chalkboard outside a cafe with {} written on it",
    "A wooden signpost at a crossing that says {}",
    "A paperback cover with the title {}",
    "A white mug on a desk, printed with {}",
    "A street mural with the letters {}",
    "A birthday cake with {} in icing",
    "A road sign in the desert that says {}",
    "A vintage poster with the headline {}",
    "A T-shirt on a hanger with the slogan {}",
    "A newspaper front page with the headline {}",
    "A shop window with {} painted on the glass",
    "A brass plate on a door engraved with {}",
    "A sandy beach with {} drawn in the sand",
    "A train station display that shows {}",
    "A glass bottle with a label that says {}",
    "A sticky note on a screen with {} written on it",
    "A billboard over a highway that reads {}",
    "A museum label beside a painting with the text {}",
    "A banner across a stadium that says {}",
    "A postage stamp with the word {}",
    "A fortune cookie slip that says {}",
    "A backpack with a patch that reads {}",
    "A lighthouse wall with {} in large letters",
)
FIRST = (
    "OPEN,SLOW,FRESH,QUIET,LUCKY,GOLDEN,HIDDEN,BRIGHT,WILD,SILVER,HAPPY,ANCIENT,FINAL,MODERN,GENTLE,FROZEN,SECRET,NORTHERN,"
    "ELECTRIC,VELVET,CRIMSON,MIDNIGHT,COASTAL,BRAVE,CLEVER,DISTANT,LITTLE,GRAND,SUNNY,URBAN"
).split(",")
SECOND = (
    "BAKERY,GARDEN,HARBOUR,LIBRARY,MARKET,RIVER,STATION,VALLEY,COFFEE,BRIDGE,FOREST,THEATRE,KITCHEN,MOUNTAIN,LANTERN,ORCHARD,"
    "COMET,PIANO,VOYAGE,WINTER,JOURNEY,SIGNAL,CASTLE,ISLAND,MIRROR,ROCKET,SPARROW,TEMPLE,WHISPER,CANYON"
).split(",")
LAST = "TODAY,AHEAD,TONIGHT,CLUB,SALE,HOUSE,TOUR,STREET,SCHOOL,FESTIVAL,2030,ONLY,AGAIN,HERE,FOREVER".split(",")
HELD_OUT_SEED = 20_260_101


def sample_prompt(rng: random.Random) -> Prompt:
    """One to four words in a scene; `target` in the metadata holds them."""
    words = [rng.choice(SECOND)]
    if rng.random() < 0.7:
        words.insert(0, rng.choice(FIRST))
    if rng.random() < 0.4:
        words.append(rng.choice(LAST))
    if rng.random() < 0.2:
        words.insert(0, "THE")
    target = " ".join(words)
    target = rng.choice((target, target.title(), target.lower()))
    text = rng.choice(SCENES).format(f'"{target}"')
    return Prompt(text=text, metadata={"prompt": text, "tag": "ocr", "target": target})


def training_set(count: int, seed: int, known: frozenset[str] = frozenset(), held_out: bool = False) -> list[Prompt]:
    """`count` prompts, none of them among the `known` keys. Raises ValueError if there seem to be no others."""
    rng = random.Random(seed)
    chosen = [draw_fresh(partial(sample_prompt, rng), known, held_out) for _ in range(count)]
    if None in chosen:
        raise ValueError("every prompt of kind ocr is excluded; exclude fewer")
    return [prompt for prompt in chosen if prompt is not None]


def held_out_set(count: int) -> list[Prompt]:
    """The fixed evaluation set: distinct prompts that are never trained on."""
    chosen = {prompt.text: prompt for prompt in training_set(2 * count, HELD_OUT_SEED, held_out=True)}
    return list(chosen.values())[:count]
