"""What a job takes, before any download."""
