"""The migrated database that a session makes once: its other workers, and processes of tests, begin with copies.

To migrate takes some ten seconds of CPU. Who is first makes the test database as Django does, and copies it, empty, to
the template; a lock keeps the others waiting for that long. That the migrations apply is what the first start says of
`tests/e2e/test_up.py`, `test_quickstart.py` and `tests/integration/tenants/test_web_role.py`: they use no template.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from django.db import connection

NAME = "pyflow_template"


@contextmanager
def filling() -> Iterator[None]:
    """Let Django make the test database in the block: of the template if there is one, else it becomes the template."""
    with _lock().open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = _marker().exists()
        if there:
            _begin_with_copy()
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield
        if not there and connection.introspection.table_names():  # Django makes none for tests that ask for none
            _publish()
            _marker().touch()


def copy_to(path: Path) -> None:
    """Make a migrated SQLite database, for a test with the mark `django_db`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_file(), path)


def _begin_with_copy() -> None:
    test = connection.settings_dict["TEST"]
    if connection.vendor == "sqlite":
        copy_to(Path(test["NAME"]))
    else:
        test["TEMPLATE"] = NAME


def _publish() -> None:
    made = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        with (
            closing(sqlite3.connect(connection.settings_dict["NAME"])) as made,
            closing(sqlite3.connect(_file())) as copy,
        ):
            made.backup(copy)
        return
    made = connection.settings_dict["NAME"]
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined] # of PostgreSQL's
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME}")
        server.execute(f'CREATE DATABASE {NAME} TEMPLATE "{made}"')


def _home() -> Path:
    return Path(os.environ["PYFLOW_HOME"])


def _file() -> Path:
    return _home() / "template.sqlite3"


def _marker() -> Path:
    return _home() / "template-made"


def _lock() -> Path:
    return _home() / "template-lock"
