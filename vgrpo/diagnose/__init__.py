"""How noisy a model's surrogate likelihood is, before any training: `vgrpo diagnose`."""
