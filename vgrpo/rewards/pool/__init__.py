"""Rewards that run in processes of their own on this machine: `--reward-workers N`."""
