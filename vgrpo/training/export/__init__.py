"""What a run has trained, in the forms that other tools read."""
