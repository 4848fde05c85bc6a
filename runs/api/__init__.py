"""HTTP side of runs."""
