"""Recognizes errors of an unreachable database: the same request may succeed a little later."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from django.db import InterfaceError, OperationalError

#: PostgreSQL's SQLSTATE classes and codes: connections, resources (too many connections among them), a server that
#: shuts down, has crashed or starts up, and connections that it ended for being idle.
_STATES = ("08", "53", "57P01", "57P02", "57P03", "57P05", "25P03")
#: SQLite's primary result codes: another process holds the lock, or the file cannot be opened, read or written.
_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def is_outage(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, comes from a database that is unreachable."""
    return any(_says_away(link) for link in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says_away(error: BaseException) -> bool:
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _CODES
    state = getattr(cause, "sqlstate", None)
    # Without a state the driver says it, not the server: no connection could be made, or it broke.
    return state is None or state.startswith(_STATES)
