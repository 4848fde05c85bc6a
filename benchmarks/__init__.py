"""Measurements of PyFlow: ``python -m benchmarks`` prints a table. Programs, not tests."""
