"""Around the triggers of the audit: to empty the tables after a test, and to play whoever tampers with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.backends.base.operations import BaseDatabaseOperations

TABLE = "tenants_auditentry"


@contextmanager
def lifted() -> Iterator[None]:
    """Work as somebody who may switch the triggers off."""
    off, on = _statements()
    connection.check_constraints()  # PostgreSQL alters no table while such checks are to come
    _execute(off)
    yield
    connection.check_constraints()
    _execute(on)


def empty_tables_after_tests() -> None:
    """Let Django's flush, which ends every test with real transactions, through the triggers."""
    kind = type(connection.ops)
    plain = kind.sql_flush

    def sql_flush(self: BaseDatabaseOperations, style: Any, tables: Any, **options: Any) -> list[str]:
        off, on = _statements() if TABLE in connection.introspection.table_names() else ([], [])
        return [*off, *plain(self, style, tables, **options), *on]

    kind.sql_flush = sql_flush  # type: ignore[method-assign] # of this process only


def _statements() -> tuple[list[str], list[str]]:
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
