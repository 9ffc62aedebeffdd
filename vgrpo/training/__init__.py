"""A training run. Read `loop.py` first."""
