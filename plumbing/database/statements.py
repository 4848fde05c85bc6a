"""Statements that are asked again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from plumbing.database.dialect import is_postgresql


def prepared() -> CursorWrapper:
    """A cursor for statements that PostgreSQL shall parse and plan once a connection, and not once an execution.

    What it executes must read the same each time: every value is a parameter. (Django's own cursors write values into
    the statement, so no two are the same.) Only for statements whose best plan does not depend on the values.
    Elsewhere, and while queries are logged (with their values), it is Django's cursor.
    """
    cursor = connection.cursor()
    if is_postgresql() and not connection.queries_logged:
        from django.db.backends.postgresql.base import ServerBindingCursor  # noqa: PLC0415 - needs its driver

        # Inside Django's wrapper, which translates errors and counts.
        cursor.cursor = ServerBindingCursor(connection.connection)  # type: ignore[call-arg] # the stubs have no bases
    return cursor


def ask(statement: str, parameters: Sequence[Any]) -> Any:
    """The first value of the first row of a ``prepared`` statement; ``None`` without a row."""
    with prepared() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    return None if row is None else row[0]
