"""Learned models of what people like."""
