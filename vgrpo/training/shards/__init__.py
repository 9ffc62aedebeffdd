"""Weights that are spread over the processes of a run: over which, and their checkpoints."""
