"""Arithmetic and memory traffic, and how long a GPU takes for both."""

from dataclasses import dataclass

from vgrpo.analysis.plan.cards import ARITHMETIC, BANDWIDTH, FUSED, Card


@dataclass(frozen=True)
class Work:
    flops: float
    """In bf16."""
    moved: float
    """Bytes that the network's kernels read and write, one after another; `--compile` fuses them."""
    kept: float = 0.0
    """Bytes of others."""

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.moved + other.moved, self.kept + other.kept)

    def __mul__(self, count: float) -> "Work":
        return Work(self.flops * count, self.moved * count, self.kept * count)

    def seconds(self, card: Card, *, compiled: bool) -> float:
        """On one card. Products wait for numbers and the rest for memory, and kernels come one after another, so the times add
        up."""
        moved = self.moved * (FUSED if compiled else 1.0) + self.kept
        return self.flops / (ARITHMETIC * card.tflops * 1e12) + moved / (BANDWIDTH * card.bandwidth * 1e9)
