"""Algorithms side by side on an embedded world."""
