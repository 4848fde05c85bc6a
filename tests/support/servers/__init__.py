"""Servers that tests start or stand in for: PostgreSQL, Redis, MariaDB, local HTTP and DNS; and what they log."""
