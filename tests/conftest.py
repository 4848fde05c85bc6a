"""Fixtures for every test. What must come before Django's settings is in `tests/support/servers.py`."""
