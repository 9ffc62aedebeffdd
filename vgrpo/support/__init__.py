"""What every folder may use: files written whole, a lock, signals, JSON, hints about spelling, checks, errors about memory."""
