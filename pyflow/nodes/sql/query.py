"""Executes the statement of a ``sql`` node. Importing this module imports SQLAlchemy."""

from __future__ import annotations

import base64
import contextlib
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection, CursorResult, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pyflow.core.duration import parse_duration
from pyflow.core.errors import PyFlowError
from pyflow.core.messages import said
from pyflow.core.plain import to_plain
from pyflow.net.files import StorageQuotaError, current_quota
from pyflow.nodes import hosts
from pyflow.nodes.sql import drivers, text
from pyflow.nodes.sql.config import TIMEOUT, SqlConfig, SqlError, SqlOutput, SqlRefusedError

#: What a cursor of PostgreSQL can be declared for, so that rows are fetched as they are needed and not all at once.
_STREAMED = frozenset(("select", "with", "values", "table"))
#: With which it cannot: a `with` that changes something, a `select` into a table.
_NOT_STREAMED = frozenset(("insert", "update", "delete", "merge", "into"))
#: Rows that are fetched at a time only to let the statement come to its end.
_PORTION = 1000
#: Reasons that may pass: no connection, a deadlock, a serialisation failure, a database that restarts or is locked.
_PASSING = ("OperationalError", "InterfaceError", "InternalError")
#: The same by the numbers of MySQL and MariaDB, which call most mistakes operational errors as well: too many
#: connections, a server that shuts down, a broken connection, a lock that was not given, a deadlock, a time limit.
_PASSING_NUMBERS = frozenset((1040, 1042, 1053, 1158, 1159, 1160, 1161, 1184, 1203, 1205, 1213, 1317, 1969, 3024))
#: Those that the client gives itself: it could not connect, or lost the connection.
_CLIENT_NUMBERS = range(2000, 3000)


async def execute(config: SqlConfig) -> SqlOutput:
    """The node's output. Raises what ``SqlNode`` says."""
    seconds = TIMEOUT if config.timeout is None else parse_duration(config.timeout)
    url = _parsed(config.url)
    query = _Query(config, url, seconds)
    return await hosts.in_thread(query.run, query.stop, seconds=seconds, what="the statement")


def _parsed(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise SqlRefusedError("not a database URL: postgresql://…, mysql://… or sqlite:///…") from None


class _Query:
    """One statement, executed in a thread and stopped from another."""

    def __init__(self, config: SqlConfig, url: URL, seconds: float) -> None:
        self._config = config
        self._url = url
        self._driver = drivers.driver_for(
            url,
            read_only=bool(config.read_only),
            seconds=seconds,
            allow_private_networks=bool(config.allow_private_networks),
        )

    def run(self) -> SqlOutput:
        """Connect, execute, disconnect."""
        try:
            with _engine(self._url, self._driver) as engine, engine.connect() as connection:
                return self._execute(connection)
        except PyFlowError:
            raise
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL and current_quota.get() is not None:
                raise StorageQuotaError("the database would exceed what the quota of stored bytes has left") from None
            kind = SqlError if _may_pass(error) else SqlRefusedError
            raise kind(self._message(error.orig)) from None
        except (
            SQLAlchemyError,
            InvalidRequestError,
            TypeError,
        ) as error:  # TypeError: a value that PyMySQL cannot send
            raise SqlRefusedError(self._message(error)) from None
        except Exception as error:  # noqa: BLE001 - drivers raise errors of their own while they connect
            raise SqlError(self._message(error)) from None

    def stop(self) -> None:
        """Make ``run`` end, from another thread."""
        self._driver.stop()

    def _execute(self, connection: Connection) -> SqlOutput:
        config = self._config
        statement = text.read(config.query, self._driver.kind)
        if not isinstance(config.params, Mapping):
            raise SqlRefusedError("`params` is a mapping of names to values")
        missing = statement.params - set(config.params)
        unused = set(config.params) - statement.params
        if missing or unused:
            wrong = [f":{name} has no value" for name in sorted(missing)]
            wrong += [f"{name!r} is not in the query" for name in sorted(unused)]
            raise SqlRefusedError(f"`params` does not fit the query: {', '.join(wrong)}")
        _check_values(config.params, self._driver.kind)
        self._driver.check(statement)
        self._driver.begin(connection)
        streamed = self._driver.streams and _is_streamed(statement, writes=not config.read_only)
        result = connection.exec_driver_sql(
            statement.text, dict(config.params), execution_options={"stream_results": True} if streamed else {}
        )
        output = _output(result, int(config.max_rows))
        if output.truncated and config.read_only and self._driver.drains:
            connection.invalidate()  # there may be no end of rows; what changes something is let go on to its own
            result.close()
            return output
        if streamed and not config.read_only:
            # A function may change something for each row: all of it is committed, or nothing.
            while result.fetchmany(_PORTION):
                pass
        result.close()
        if config.read_only:
            connection.rollback()
            return output
        if not output.columns:
            output.row_count = max(self._driver.changed(result.rowcount), 0)
        connection.commit()
        return output

    def _message(self, error: BaseException | None) -> str:
        """Return the database's message, without the password in any of its forms."""
        return said(error, password=self._url.password) or type(error).__name__


def _is_streamed(statement: text.Statement, *, writes: bool) -> bool:
    return statement.first in _STREAMED and not (writes and statement.words & _NOT_STREAMED)


def _may_pass(error: DBAPIError) -> bool:
    number = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if isinstance(number, int):
        return number in _PASSING_NUMBERS or number in _CLIENT_NUMBERS
    passing = type(error.orig).__name__ in _PASSING or error.connection_invalidated
    return passing and not _says_read_only(error)


def _says_read_only(error: DBAPIError) -> bool:
    """SQLite reports a refused change as an operational error, which it is not."""
    said = str(error.orig).lower()
    return any(words in said for words in ("readonly", "read only", "not authorized", "syntax error", "no such"))


@contextlib.contextmanager
def _engine(url: URL, driver: drivers.Driver) -> Iterator[Engine]:
    try:
        engine = create_engine(
            URL.create(driver.dialect), creator=driver.connect, poolclass=NullPool, hide_parameters=True
        )
    except (ImportError, NoSuchModuleError):
        raise SqlRefusedError(f"the driver for {url.get_backend_name()} is not installed here") from None
    try:
        yield engine
    finally:
        engine.dispose()


def _check_values(params: Mapping[str, Any], kind: text.Kind) -> None:
    """Raise ``SqlRefusedError`` for values that the database has no type for, with what to send instead."""
    for name, value in params.items():
        is_list = isinstance(value, list | tuple)
        if isinstance(value, Mapping) or (is_list and any(isinstance(item, Mapping) for item in value)):
            raise SqlRefusedError(f":{name} is no single value: send it as JSON, `{{{{ tojson(…) }}}}`")
        if is_list and kind == "sqlite":
            advice = f"send it as JSON, `{{{{ tojson(…) }}}}`, and read it with json_each(:{name})"
            raise SqlRefusedError(f":{name} is a list, which SQLite does not have: {advice}")


def _output(result: CursorResult[Any], max_rows: int) -> SqlOutput:
    if not result.returns_rows:
        return SqlOutput(rows=[], columns=[], row_count=max(result.rowcount, 0), truncated=False)
    columns = _unique(list(result.keys()))
    fetched = result.fetchmany(max_rows + 1)
    rows = [dict(zip(columns, map(_plain, row), strict=True)) for row in fetched[:max_rows]]
    return SqlOutput(rows=rows, columns=columns, row_count=len(rows), truncated=len(fetched) > max_rows)


def _unique(names: Sequence[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in unique:
            count += 1
            candidate = f"{name}_{count}"
        unique.append(candidate)
    return unique


def _plain(value: Any) -> Any:
    """A value as JSON has it: bytes as base64, what JSON lacks as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else format(Decimal(value), "f")  # NaN, Infinity, -Infinity
    if isinstance(value, Decimal):
        return format(value, "f")  # never 1E-7
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    try:
        return to_plain(value)
    except PyFlowError:
        return str(value)  # addresses, ranges and whatever else a database has
