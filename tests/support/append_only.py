"""Around the triggers of the audit: to empty its table after a test, and to play whoever tampers with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

TABLE = "tenants_auditentry"


@contextmanager
def lifted() -> Iterator[None]:
    """Work as somebody who may switch the triggers off."""
    off, on = statements()
    connection.check_constraints()  # PostgreSQL alters no table while such checks are to come
    _execute(off)
    yield
    connection.check_constraints()
    _execute(on)


def statements() -> tuple[list[str], list[str]]:
    """What switches the triggers off, and on again."""
    if connection.vendor == "postgresql":
        return [f"ALTER TABLE {TABLE} DISABLE TRIGGER USER"], [f"ALTER TABLE {TABLE} ENABLE TRIGGER USER"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [TABLE])
        triggers = cursor.fetchall()
    return [f"DROP TRIGGER {name}" for name, _ in triggers], [sql for _, sql in triggers]


def _execute(statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
