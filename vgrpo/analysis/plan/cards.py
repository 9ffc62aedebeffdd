"""GPUs by name: their memory, and the arithmetic that their makers publish for products in bf16 with sums in fp32, not sparse.

Sources: NVIDIA's whitepapers of GA102 and Ada and its data sheets of L4, L40S, A100, H100 and H200 (SXM), AMD's of MI300X.
"""

from typing import NamedTuple

SHARE = 0.4
"""Of the published arithmetic that a network is assumed to reach, of any card: assumed, and not measured here."""


class Card(NamedTuple):
    gigabytes: int
    tflops: float
    """Published peak, TFLOP/s."""


CARDS = {
    "3090": Card(24, 71),
    "4090": Card(24, 165),
    "l4": Card(24, 121),
    "l40s": Card(48, 362),
    "a100": Card(80, 312),
    "h100": Card(80, 989),
    "h200": Card(141, 989),
    "mi300x": Card(192, 1307),
}


def card_of(name: str) -> Card | None:
    """By any way to write it: 4090, RTX 4090, NVIDIA GeForce RTX 4090, or H100 80GB HBM3. None for one that is not listed."""
    words = name.lower().replace("-", " ").split()
    found = [CARDS[word] for word in words if word in CARDS]
    if any(word in ("laptop", "mobile", "d", "ti") for word in words):  # slower or faster ones of the same number
        return None
    return found[0] if found else None
