"""The two shapes that the suite runs in, and which tests belong to which: each runs where its claim can differ.

- `single`: SQLite, in-process executor and event bus.
- `fleet`: PostgreSQL, Redis, and the Celery workers that tests start.

| marks of a test | single | fleet | why |
| --- | --- | --- | --- |
| none | yes | | it asks no database, or one that could be any |
| `database` | yes | yes | its SQL, locks or transactions may differ between the vendors |
| `api` | | yes | it asks about rules of the API or the admin: Python, and SQL that Django writes |
| `api`, `vendor(why)` | yes | yes | it says in which way the vendors differ |
| `api`, `django_db(transaction=True)` | yes | yes | others see its transactions, and each vendor locks in its own way |
| `fleet` | | yes | it needs PostgreSQL, Redis or a Celery worker |

`tests/generated/test_smoke.py` calls every operation of the API in both, `tests/e2e/test_admin.py` opens every list and
form of the admin.
"""

import os
import re

import pytest

SINGLE, FLEET = SHAPES = ("single", "fleet")


def shape() -> str:
    """Return the shape of this session, `single` or `fleet`."""
    name = os.environ.get("PYFLOW_TEST_SHAPE", SINGLE)
    if name not in SHAPES:
        raise pytest.UsageError(f"PYFLOW_TEST_SHAPE is {name!r}; it may be one of {', '.join(SHAPES)}")
    return name


def shapes_of(item: pytest.Item) -> set[str]:
    """Return the shapes that a test runs in, by the table above."""
    if _has(item, "fleet"):
        return {FLEET}
    if _has(item, "vendor") or _has(item, "database"):
        return {SINGLE, FLEET}
    if _has(item, "api"):
        return {SINGLE, FLEET} if has_real_transactions(item) else {FLEET}
    return {SINGLE}


def has_real_transactions(item: pytest.Item) -> bool:
    """Return whether what a test writes is committed, where other connections see it."""
    marked = item.get_closest_marker("django_db")
    fixtures: list[str] = getattr(item, "fixturenames", [])
    return (marked is not None and bool(marked.kwargs.get("transaction"))) or "transactional_db" in fixtures


def names_mark_of_fleet(source: str) -> bool:
    """Return whether a module names a mark with which a test of it may belong to the shape `fleet`."""
    return _OF_FLEET.search(source) is not None


_OF_FLEET = re.compile(r"\bmark\.(fleet|vendor|database|api)\b")


def _has(item: pytest.Item, mark: str) -> bool:
    return item.get_closest_marker(mark) is not None
