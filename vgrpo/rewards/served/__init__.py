"""Rewards behind a server."""
