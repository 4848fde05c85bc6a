"""Statements that are asked again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, models
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


def update_rows(rows: Sequence[models.Model], names: Sequence[str]) -> None:
    """Write fields of rows of one model, in one round trip.

    Django's ``bulk_update`` puts all values into one expression, which takes longer to compile than to execute.
    """
    if not rows:
        return
    meta = rows[0]._meta
    known: dict[str, models.Field[Any, Any]] = {field.name: field for field in meta.concrete_fields}
    written = [*(known[name] for name in names), known["id"]]
    changes = ", ".join(f"{connection.ops.quote_name(field.attname)} = %s" for field in written[:-1])
    statement = f"UPDATE {connection.ops.quote_name(meta.db_table)} SET {changes} WHERE id = %s"  # noqa: S608 - names
    values = [[field.get_db_prep_save(getattr(row, field.attname), connection) for field in written] for row in rows]
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)
