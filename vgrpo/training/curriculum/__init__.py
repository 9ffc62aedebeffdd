"""Several runs one after the other on one adapter."""
