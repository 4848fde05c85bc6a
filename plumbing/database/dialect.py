"""Differences between the databases: PostgreSQL (fleet) and SQLite, which lets one transaction write at a time."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections


def is_postgresql(using: str = DEFAULT_DB_ALIAS) -> bool:
    """Return whether the database is PostgreSQL, with row locks, advisory locks, row-level security and arrays."""
    return connections[using].vendor == "postgresql"


def allow_idle_transactions(using: str = DEFAULT_DB_ALIAS) -> None:
    """Let this connection pause in its transactions: a migration computes between statements, and has no lease."""
    if is_postgresql(using):
        with connections[using].cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = 0")
