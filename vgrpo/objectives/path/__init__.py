"""Algorithms that train on the stochastic steps of their own rollouts."""
