"""Randomness with names. Every draw comes from a generator seeded by what the draw is for, never by rank, process history
or batch shape, so that a run is reproducible, resumable and independent of how the work is split."""

import hashlib

import torch

Seed = tuple[int | str, ...]
"""The names of a draw, or the first of them."""


def seed_of(*names: int | str) -> int:
    """A stable 63-bit seed for e.g. (run seed, "noise", iteration, group)."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*names: int | str) -> torch.Generator:
    """A CPU generator: the same numbers on every device."""
    return torch.Generator().manual_seed(seed_of(*names))
