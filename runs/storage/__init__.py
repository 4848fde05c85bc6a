"""Stores runs: grouped writes, batch SQL, large values, retention."""
