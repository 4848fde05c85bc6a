"""The project's commands, whose errors of the database are one line that says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from django.core.management import execute_from_command_line
from django.db import DatabaseError

from pyflow_site.outages import is_outage


def run(argv: Sequence[str]) -> None:
    """Execute the command that ``argv`` names. Ends the process with status 1 where the database does not do its part.

    ``--traceback`` shows the error itself.
    """
    if "up" not in argv[1:2]:  # whose children are servers
        os.environ.setdefault("PYFLOW_DB_POOL", "false")  # a command has one connection, and need not wait for a pool
    try:
        execute_from_command_line(list(argv))
    except DatabaseError as error:
        advice = advise(error)
        if advice is None or "--traceback" in argv:
            raise
        sys.exit(f"{argv[0]}: {advice}")


def advise(error: DatabaseError) -> str | None:
    """Say in one line what an operator can do about an error of the database; ``None`` for a mistake of ours."""
    said = next(iter(str(error).splitlines()), "")
    if is_outage(error):
        return f"the database cannot be reached ({said}). Check DATABASE_URL, and whether the server is running."
    cause = error.__cause__
    missing = getattr(cause, "sqlstate", None) in {"42P01", "42703"} or said.startswith(
        ("no such table", "no such col")
    )
    return f"the database is not migrated ({said}). Run `manage.py migrate`." if missing else None
