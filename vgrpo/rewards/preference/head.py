"""The score head that the aesthetic predictor and ImageReward share: five linear layers without activations between them."""

from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from vgrpo.rewards.downloads import load_state, renamed

HIDDEN = (1024, 128, 64, 16)
# Dropouts, which do nothing after training, take places 1, 3 and 5 of the published list of layers.
TABLE = {rf"layers\.{place}\.(weight|bias)": rf"{index}.\1" for index, place in enumerate((0, 2, 4, 6, 7))}


def score_head(state: dict[str, Tensor], width: int, reward: str, path: Path) -> nn.Sequential:
    """From features [B, width] to scores [B, 1], filled from `layers.0.weight` and so on; `path` is named in errors."""
    head = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise((width, *HIDDEN, 1))))
    load_state(head, renamed(state, TABLE), reward, path)
    return head.eval().requires_grad_(False)
