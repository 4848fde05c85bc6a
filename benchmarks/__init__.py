"""What PyFlow costs, measured: ``python -m benchmarks`` prints a table. Programs, not tests."""
