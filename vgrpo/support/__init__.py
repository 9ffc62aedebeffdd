"""What every folder may use: files written whole, settings, hints about spelling, checks, errors about memory."""
