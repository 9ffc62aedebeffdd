"""A run's state on disk: checkpoints that are whole or absent, and going on from them."""
