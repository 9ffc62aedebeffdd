"""Prompts that are made up: objects to count and place, words to write."""
