"""Prompts for rewards that judge any picture, such as PickScore: a subject, where it is or what it does, and a way to show it.

Made up here and free of anyone's rights; prompts that people wrote (HPDv2's are the published choice) are richer.
"""

import random
from functools import partial

from vgrpo.core.types import Prompt
from vgrpo.prompts.splits import draw_fresh

SUBJECTS = (
    "an old fisherman,a young violinist,a red fox,a clockmaker,two ballet dancers,a barn owl,a lighthouse,a steam locomotive,"
    "an astronaut,a snow leopard,a baker,a robot gardener,a sailing ship,a wooden cabin,a white horse,a street musician,"
    "a glass teapot,a koi pond,a mountain guide,a hot air balloon,a stone bridge,a beekeeper,a paper lantern,a desert caravan,"
    "a grey cat,a chess player,a humpback whale,a windmill,a librarian,a bowl of ramen,a vintage bicycle,a castle,a kingfisher,"
    "a chef,a marble statue,a tram,a pair of hiking boots,a cherry tree,a potter,a sleeping dragon"
).split(",")
SETTINGS = (
    "at dawn,in heavy rain,under a starry sky,in a quiet village,on a rocky coast,in an autumn forest,by candlelight,"
    "in a crowded market,on a snowy hill,in thick fog,beside a frozen lake,in a sunlit courtyard,at the edge of a canyon,"
    "in a field of lavender,under neon lights,in a dusty workshop,on a rooftop at dusk,beneath a waterfall,in a small harbour,"
    "after a storm"
).split(",")
STYLES = (
    "oil painting,watercolour,black and white photograph,close-up photograph,wide-angle photograph,ink drawing,"
    "children's book illustration,3D render,woodcut print,pastel drawing,film still,isometric illustration,travel poster,"
    "pencil sketch,studio photograph"
).split(",")


def sample_prompt(rng: random.Random) -> Prompt:
    """`an oil painting of a red fox in thick fog`, or the same without a style."""
    text = f"{rng.choice(SUBJECTS)} {rng.choice(SETTINGS)}"
    if rng.random() < 0.7:
        style = rng.choice(STYLES)
        text = f"{'an' if style[0] in 'aeiou' else 'a'} {style} of {text}"
    return Prompt(text=text, metadata={"prompt": text})


def training_set(count: int, seed: int, known: frozenset[str] = frozenset(), held_out: bool = False) -> list[Prompt]:
    """`count` prompts, none of them among the `known` keys. Raises ValueError if there seem to be no others."""
    rng = random.Random(seed)
    chosen = [draw_fresh(partial(sample_prompt, rng), known, held_out) for _ in range(count)]
    if None in chosen:
        raise ValueError("every prompt of kind preference is excluded; exclude fewer")
    return [prompt for prompt in chosen if prompt is not None]
