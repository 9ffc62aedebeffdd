"""Algorithms side by side on the embedded world: `vgrpo bench`."""
