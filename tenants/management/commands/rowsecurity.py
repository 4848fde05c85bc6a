"""``manage.py rowsecurity``: role, privileges and policies as the migrations say."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from plumbing.database.dialect import is_postgresql
from tenants.row_security import restore, shortcomings


class Command(BaseCommand):
    """Makes what is missing and takes what is too much; may be run at any time, and again."""

    help = "Create or repair the database role of web processes, its privileges, and the policies on tenants' rows."

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_postgresql():
            raise CommandError("Only PostgreSQL has row-level security.")
        restore(connection)
        if missing := shortcomings(connection):
            raise CommandError("\n".join(missing))
        self.stdout.write("Row-level security holds for every request.")
