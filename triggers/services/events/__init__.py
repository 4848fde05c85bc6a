"""Event triggers: their rows, and the way along the log."""
