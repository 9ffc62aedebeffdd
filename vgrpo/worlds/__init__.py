"""Worlds: prompts that come with a verifier, so that a run needs no data and its scores can be trusted."""
