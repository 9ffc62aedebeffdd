"""How noisy a model's surrogate likelihood is."""
