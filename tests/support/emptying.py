"""The tables, emptied after every test with real transactions; that is hundreds of times, so it has to be quick."""

from typing import Any

from django.core.management.commands import flush
from django.db import connection
from django.db.backends.base.operations import BaseDatabaseOperations

from tests.support import append_only

KEPT = {"django_content_type", "auth_permission"}
"""What migrations put there and no test changes. Django would empty these too, and then ask for each row of them."""


def empty_tables_after_tests() -> None:
    """Have Django's flush go through the triggers of append-only tables, and leave alone what stays as it is."""
    kind = type(connection.ops)
    plain = kind.sql_flush

    def sql_flush(self: BaseDatabaseOperations, style: Any, tables: Any, **options: Any) -> list[str]:
        tables = [table for table in tables if table not in KEPT]
        if connection.vendor == "postgresql":
            # TRUNCATE makes new files for every table and index.
            emptied = [f"DELETE FROM {self.quote_name(table)}" for table in tables]
            return ["; ".join(["SET LOCAL session_replication_role = replica", *emptied])]
        off, on = append_only.statements()
        return [*off, *plain(self, style, tables, **options), *on]

    kind.sql_flush = sql_flush  # type: ignore[method-assign] # of this process only
    vars(flush)["emit_post_migrate_signal"] = _keep


def _keep(*_: object) -> None:
    """Instead of the signal that would have content types and permissions made anew."""
