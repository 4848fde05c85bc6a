"""System checks of row-level security in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import connections

from plumbing.database.dialect import is_postgresql
from tenants.row_security import shortcomings

HOW_TO = (
    "Run `manage.py rowsecurity` as the owner of the tables. If that user may not make roles, let somebody who may "
    "execute `CREATE ROLE pyflow_web NOLOGIN; GRANT pyflow_web TO <the owner>;` before."
)


def check_row_security(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Requests work as a role that the policies hold for."""
    used = [connections[alias] for alias in databases or () if is_postgresql(alias)]
    found = [reason for connection in used for reason in shortcomings(connection)]
    return [
        checks.Warning(f"Row-level security is not complete. {reason}", hint=HOW_TO, id="tenants.W001")
        for reason in found
    ]
