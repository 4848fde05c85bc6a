"""Explains why a run is in its state and what it waits for."""
