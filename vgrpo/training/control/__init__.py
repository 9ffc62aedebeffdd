"""A run asked from outside, and how it ends before its end."""
