"""Advisory locks: held until the current transaction ends, by a name. SQLite has one writer anyway and needs none.

https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

import hashlib

from django.db import connection

from plumbing.database.dialect import is_postgresql


def lock(name: str) -> None:
    """Wait for the lock of this name."""
    if is_postgresql():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_number(name)])


def try_lock(name: str) -> bool:
    """Take the lock of this name if no other transaction has it; whether this one has it now."""
    if not is_postgresql():
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_number(name)])
        [taken] = cursor.fetchone()
    return bool(taken)


def _number(name: str) -> int:
    """A signed number of 64 bits, as PostgreSQL wants it. Two names in 2^64 share one, and then wait for each other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
