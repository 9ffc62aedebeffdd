"""What is known before, beside and after a run: its cost, its noise, its rivals."""
