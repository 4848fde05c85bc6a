"""Processes and executors of the platform, as tests start, stop and kill them."""
