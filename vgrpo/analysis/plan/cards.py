"""GPUs by name: their memory, its bandwidth, and the arithmetic that their makers publish for products in bf16 with sums in
fp32, not sparse.

Sources: NVIDIA's whitepapers of GA102 and Ada and its data sheets of L4, L40S, A100, H100 and H200 (SXM), AMD's of MI300X.
"""

from typing import NamedTuple

ARITHMETIC, BANDWIDTH = 0.8, 0.9
"""Shares of what is published that a large product and a copy reach: measured on an H100, assumed of all others."""
FUSED = 1 / 3
"""Of the bytes that a network's kernels move, those that are left with `--compile`: what the times of Stable Diffusion 3.5
Medium on an H100 come to, in drawing and in updates (docs/models.md)."""


class Card(NamedTuple):
    gigabytes: int
    tflops: float
    """Published peak, TFLOP/s."""
    bandwidth: float
    """Of its memory, published, GB/s."""


CARDS = {
    "3090": Card(24, 71, 936),
    "4090": Card(24, 165, 1008),
    "l4": Card(24, 121, 300),
    "l40s": Card(48, 362, 864),
    "a100": Card(80, 312, 2039),
    "h100": Card(80, 989, 3350),
    "h200": Card(141, 989, 4800),
    "mi300x": Card(192, 1307, 5300),
}


def card_of(name: str) -> Card | None:
    """By any way to write it: 4090, RTX 4090, NVIDIA GeForce RTX 4090, or H100 80GB HBM3. None for one that is not listed."""
    words = name.lower().replace("-", " ").split()
    found = [CARDS[word] for word in words if word in CARDS]
    if any(word in ("laptop", "mobile", "d", "ti") for word in words):  # slower or faster ones of the same number
        return None
    return found[0] if found else None
