"""Connections of the ``sql`` node to each kind of database: checked addresses, read-only, with a time limit."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.engine import URL, Connection

from pyflow.core.messages import show
from pyflow.net import files
from pyflow.net.files import PathRefusedError
from pyflow.nodes import hosts
from pyflow.nodes.sql.config import SqlRefusedError
from pyflow.nodes.sql.options import url_options
from pyflow.nodes.sql.text import Kind, Statement

_NAMES = {
    "postgresql": "postgresql", "postgres": "postgresql", "postgresql+psycopg": "postgresql",
    "mysql": "mysql", "mysql+pymysql": "mysql", "mariadb": "mysql", "mariadb+pymysql": "mysql",
    "sqlite": "sqlite", "sqlite+pysqlite": "sqlite",
}  # fmt: skip

#: What a statement in SQLite may not do: open other files.
_SQLITE_REFUSED = frozenset((sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH))
#: Pragmas that only describe tables.
_SQLITE_PRAGMAS = frozenset(
    ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list")
)
#: Functions that load code, and SQLAlchemy's `regexp`: Python's, which backtracks without an end and cannot be stopped.
_SQLITE_FUNCTIONS = frozenset(("load_extension", "fts3_tokenizer", "regexp"))
#: Bytes of one value, and of a statement.
_SQLITE_MAX_VALUE = 64 * 1024 * 1024


class Driver(Protocol):
    """One connection to one database."""

    dialect: ClassVar[str]
    """SQLAlchemy's name for it."""
    kind: ClassVar[Kind]
    """Name of the SQL dialect."""
    streams: ClassVar[bool]
    """True if rows have to be fetched in portions, because all would come at once."""
    drains: ClassVar[bool]
    """True if all rows have to be read before the connection takes another statement."""

    def connect(self) -> Any:
        """A connection of the driver, to an address that was checked. Called once, by SQLAlchemy."""

    def check(self, statement: Statement) -> None:
        """Raise ``SqlRefusedError`` for a statement that what ``begin`` does would not hold back."""

    def begin(self, connection: Connection) -> None:
        """Make the transaction what it has to be."""

    def changed(self, rowcount: int) -> int:
        """Return the number of rows that a statement has changed, from the driver's ``rowcount``."""

    def stop(self) -> None:
        """Make whatever goes on end, from another thread."""


def driver_for(url: URL, *, read_only: bool, seconds: float, allow_private_networks: bool) -> Driver:
    """The driver for a URL. Raises ``SqlRefusedError`` for other databases and for options that are not allowed."""
    kind = _NAMES.get(url.drivername)
    if kind == "sqlite":
        return SqliteDriver(url, read_only=read_only, seconds=seconds)
    if kind is None:
        raise SqlRefusedError(f"no such kind of database here: {show(url.drivername)}; use postgresql, mysql or sqlite")
    driver = PostgresDriver if kind == "postgresql" else _mysql_driver()
    return driver(url, read_only=read_only, seconds=seconds, allow_private_networks=allow_private_networks)


def _mysql_driver() -> Callable[..., Driver]:
    try:
        from pyflow.nodes.sql.mysql import MySqlDriver  # noqa: PLC0415 - a platform may be without PyMySQL
    except ImportError:
        raise SqlRefusedError("the driver for mysql is not installed here: PyMySQL") from None
    return MySqlDriver


class PostgresDriver:
    """psycopg. libpq gets the addresses, and neither the operator's password file nor a service of theirs."""

    dialect: ClassVar[str] = "postgresql+psycopg"
    kind: ClassVar[Kind] = "postgresql"
    streams: ClassVar[bool] = True
    drains: ClassVar[bool] = False
    _ALLOWED: ClassVar[frozenset[str]] = frozenset(("sslmode", "application_name", "channel_binding"))

    def __init__(self, url: URL, *, read_only: bool, seconds: float, allow_private_networks: bool) -> None:
        self._url = url
        self._read_only = read_only
        self._seconds = seconds
        self._allow_private_networks = allow_private_networks
        self._options = url_options(url, self._ALLOWED)
        self._connection: Any = None

    def connect(self) -> Any:
        import psycopg  # noqa: PLC0415 - a platform may be without it

        host, port = self._url.host or "", self._url.port or 5432
        addresses = hosts.checked_addresses(host, port, allow_private_networks=self._allow_private_networks)
        self._connection = psycopg.connect(
            host=",".join([host] * len(addresses)),
            hostaddr=",".join(addresses),
            port=port,
            user=self._url.username,
            # Empty instead of absent, or libpq would take PGPASSWORD.
            password=self._url.password or "",
            dbname=self._url.database or self._url.username,
            passfile=f"{os.devnull}/none",
            gssencmode="disable",
            connect_timeout=max(2, round(min(self._seconds, hosts.CONNECT_TIMEOUT))),
            # Statements without parameters would otherwise go by a protocol that takes several at once, and the
            # second could end the read-only transaction.
            prepare_threshold=0,
            **self._options,
        )
        from pyflow.nodes.sql.values import register  # noqa: PLC0415 - it imports psycopg

        register(self._connection)
        return self._connection

    def check(self, statement: Statement) -> None:
        """Allow every statement: the server itself refuses what is forbidden."""

    def begin(self, connection: Connection) -> None:
        if self._read_only:
            connection.execute(text("SET TRANSACTION READ ONLY"))
        settings = {
            # `stop` cancels in time; this is for a server that it does not get through to.
            "statement_timeout": int(self._seconds * 1000) + 1000,
            # What the text of values and of literals is does not depend on who connects.
            "datestyle": "ISO",
            "intervalstyle": "iso_8601",
            "standard_conforming_strings": "on",
        }
        calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
        # The first query fixes the mode of the transaction: from here on it cannot be made writable again.
        connection.execute(text(f"SELECT {calls}"))

    def changed(self, rowcount: int) -> int:
        return rowcount

    def stop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.cancel_safe(timeout=1.0)


class SqliteDriver:
    """The sqlite3 module: a file of the storage, or memory. Other files cannot be attached."""

    dialect: ClassVar[str] = "sqlite"
    kind: ClassVar[Kind] = "sqlite"
    streams: ClassVar[bool] = False
    drains: ClassVar[bool] = False

    def __init__(self, url: URL, *, read_only: bool, seconds: float) -> None:
        if url.host or url.username or url.password:
            raise SqlRefusedError("an SQLite URL has no host: sqlite:///path/in/the/storage.db")
        url_options(url, frozenset())
        self._path = None if url.database in (None, "", ":memory:") else url.database
        self._read_only = read_only
        self._seconds = seconds
        self._connection: sqlite3.Connection | None = None

    def connect(self) -> sqlite3.Connection:
        """Open the database file. Raises ``PathRefusedError`` for a path outside the storage root."""
        path = None
        if self._path is None:
            uri = "file::memory:"
        else:
            path = _sqlite_file(self._path, create=not self._read_only)
            uri = f"file:{quote(str(path))}?mode={'ro' if self._read_only else 'rwc'}"
        # check_same_thread: `stop` interrupts from another one.
        connection = sqlite3.connect(uri, uri=True, timeout=self._seconds, check_same_thread=False)
        self._connection = connection
        if self._read_only:
            connection.execute("PRAGMA query_only = ON")
        elif path is not None:
            _bound(connection, path)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SQLITE_MAX_VALUE)
        return connection

    def check(self, statement: Statement) -> None:
        """Allow every statement: ``_authorize`` decides on each operation as SQLite prepares it."""

    def begin(self, connection: Connection) -> None:  # noqa: ARG002 - SQLAlchemy has made its own preparations by now
        assert self._connection is not None  # noqa: S101 - it is connected by now
        self._connection.set_authorizer(_authorize)

    def changed(self, rowcount: int) -> int:
        """Count changed rows by the connection: the module does not count statements that begin with ``WITH``."""
        assert self._connection is not None  # noqa: S101 - it is connected by now
        return rowcount if rowcount >= 0 else int(self._connection.execute("SELECT changes()").fetchone()[0])

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.interrupt()


def _bound(connection: sqlite3.Connection, path: Path) -> None:
    """Let a database grow to what the storage's quota has left for it, and no further: ``SQLITE_FULL`` then."""
    storage = files.storage()
    room = storage.room(path) if isinstance(storage, files.ConfinedFiles) else None
    if room is not None:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        # A database that is larger already keeps its size; 0 would be no limit.
        connection.execute(f"PRAGMA max_page_count = {max(1, room // page_size)}")


def _authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
    """SQLite asks this about everything that a statement would do (https://www.sqlite.org/c3ref/set_authorizer.html)."""
    if action in _SQLITE_REFUSED:  # ATTACH, and VACUUM INTO, which attaches
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in _SQLITE_PRAGMAS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _SQLITE_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _sqlite_file(name: str, *, create: bool) -> Path:
    """The path of a database in the storage. SQLite opens by path, so this looks at each part of it beforehand.

    Without a storage root the workflow is its author's own, and any file will do.
    """
    root = _root()
    if root is None:
        path = Path(name)
    else:
        path = root.resolve()
        for component in files.components(name):
            path /= component
            if path.is_symlink():
                raise PathRefusedError(f"{component!r} is a link")
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or (root is not None and found.st_nlink > 1):
            raise PathRefusedError(f"{path.name!r} is not a plain file of this storage")
        return path
    if not create:
        raise SqlRefusedError(f"no such database in the storage: {show(name, 200)}")
    files.make_private(path.parent)
    # SQLite would make it by the umask; its journals have the mode of the database.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    return path


def _root() -> Path | None:
    storage = files.storage()
    return storage.root if isinstance(storage, files.ConfinedFiles) else None


__all__: list[str] = ["Driver", "PostgresDriver", "SqliteDriver", "driver_for", "url_options"]
