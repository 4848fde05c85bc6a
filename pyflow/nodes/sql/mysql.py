"""The MySQL and MariaDB driver of the ``sql`` node. Importing this module imports PyMySQL."""

from __future__ import annotations

import contextlib
import math
import ssl
from typing import Any, ClassVar

import pymysql  # type: ignore[import-untyped] # it ships no types
from pymysql.cursors import SSCursor  # type: ignore[import-untyped] # see above
from sqlalchemy import text
from sqlalchemy.engine import URL, Connection

from pyflow.nodes import hosts
from pyflow.nodes.sql.config import SqlRefusedError
from pyflow.nodes.sql.options import url_options
from pyflow.nodes.sql.text import Kind, Statement

#: Statements that cannot end the read-only transaction which they are in. Others can: a block (MariaDB's ``BEGIN NOT
#: ATOMIC``, ``IF``) and a procedure hold a ``COMMIT``, and a ``SET`` changes the server for everybody.
_READING = frozenset(("select", "with", "values", "table", "show", "describe", "desc", "explain"))


class MySqlDriver:
    """PyMySQL, on a socket that we connect."""

    dialect: ClassVar[str] = "mysql+pymysql"
    kind: ClassVar[Kind] = "mysql"
    streams: ClassVar[bool] = False  # its cursors always do, see below
    drains: ClassVar[bool] = True
    _ALLOWED: ClassVar[frozenset[str]] = frozenset(("charset", "ssl"))

    def __init__(self, url: URL, *, read_only: bool, seconds: float, allow_private_networks: bool) -> None:
        self._url = url
        self._read_only = read_only
        self._seconds = seconds
        self._allow_private_networks = allow_private_networks
        self._options = url_options(url, self._ALLOWED)
        self._socket: Any = None

    def connect(self) -> Any:
        host, port = self._url.host or "", self._url.port or 3306
        addresses = hosts.checked_addresses(host, port, allow_private_networks=self._allow_private_networks)
        wants_tls = self._options.get("ssl", "false").lower() in ("true", "1", "yes")
        connection: Any = pymysql.connect(
            host=host,
            port=port,
            user=self._url.username or "",
            password=self._url.password or "",
            database=self._url.database,
            charset=self._options.get("charset", "utf8mb4"),
            ssl=ssl.create_default_context() if wants_tls else None,
            read_timeout=max(1, math.ceil(self._seconds)),
            write_timeout=max(1, math.ceil(self._seconds)),
            local_infile=False,  # a server could ask for any file of this machine
            cursorclass=_Rows,
            defer_connect=True,
        )
        self._socket = hosts.connect(addresses, port, self._seconds)
        connection.connect(self._socket)
        return connection

    def check(self, statement: Statement) -> None:
        if not self._read_only:
            return
        if statement.first not in _READING:
            allowed = ", ".join(sorted(_READING)).upper()
            raise SqlRefusedError(f"with `read_only`, a statement for MySQL begins with one of {allowed}")
        if "into" in statement.words:
            raise SqlRefusedError("with `read_only`, nothing is selected INTO a file of the server or a variable")

    def begin(self, connection: Connection) -> None:
        # `stop` hangs up, which a server that computes does not notice.
        limit = math.ceil(self._seconds) + 1
        mariadb = connection.dialect.is_mariadb  # type: ignore[attr-defined] # all dialects of MySQL say so
        ends = f"max_statement_time = {limit}" if mariadb else f"max_execution_time = {limit * 1000}"
        connection.execute(text(f"SET SESSION {ends}"))
        if self._read_only:
            # The first is for a transaction that would follow the one of the second.
            connection.execute(text("SET SESSION TRANSACTION READ ONLY"))
            connection.execute(text("START TRANSACTION READ ONLY"))

    def changed(self, rowcount: int) -> int:
        return rowcount

    def stop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(2)


class _Rows(SSCursor):  # type: ignore[misc] # PyMySQL ships no types
    """A cursor that fetches rows as they are asked for, and can be closed when the connection has gone.

    PyMySQL's own reads all the other rows before it closes, wherever from.
    """

    connection: Any

    def close(self) -> None:
        """Read to the end if the connection is there, which is of no use before."""
        if self.connection is not None and not self.connection.open:
            if self._result is not None:
                self._result.unbuffered_active = False
            self.connection = None
        super().close()

    __del__ = close
