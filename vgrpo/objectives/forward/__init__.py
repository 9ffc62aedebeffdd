"""Algorithms that train on points of the forward process, which need nothing of the rollout but its images."""
