"""The embedded world: a small board on which sprites stand in cells; GenEval (arXiv:2310.11513) in miniature."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The autoencoder's public home, from which diffusers loads it, without importing diffusers here.

    Diffusers also looks for the base class that knows how to load it, in the same module.
    """
    if name not in ("CellAutoencoder", "ModelMixin"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vgrpo.worlds.sprites import autoencoder

    return getattr(autoencoder, name)
