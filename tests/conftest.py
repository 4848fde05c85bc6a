"""Fixtures for every test. What must come before Django's settings is in `tests/support/session.py`."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import override_settings

from tenants import failures, keys, principals
from tenants.limits import MemoryLimiter
from tests.support import emptying, invariants, passwords

emptying.empty_tables_after_tests()
if connection.vendor == "sqlite":
    # A test's database need not survive the machine: it waits for no disk. Servers that a test starts do.
    options = connection.settings_dict["OPTIONS"]
    options["init_command"] = options["init_command"].replace("synchronous=FULL", "synchronous=OFF")


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Passwords and keys are hashed in a millisecond."""
    with override_settings(PASSWORD_HASHERS=passwords.HASHERS), pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "COST", 4)
        yield


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Keep PostgreSQL's test databases: their server goes with them, and dropping one fails while a client leaves."""
    return connection.vendor == "postgresql"


@pytest.fixture(autouse=True)
def nobody_is_known(monkeypatch) -> None:
    """No test believes what another one has checked, nor pays for what another one got wrong."""
    principals.cache.clear()
    monkeypatch.setattr(failures, "limiter", MemoryLimiter())


@pytest.fixture(autouse=True)
def invariants_hold(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ask the database for `invariants` after a test that has used it, once what executed runs has stopped.

    Set up before what the test itself asks for, and so torn down after it; then the tables are emptied, or rolled back.
    """
    marked = request.node.get_closest_marker("django_db") is not None
    if not marked and not {"db", "transactional_db", "live_server"} & set(request.fixturenames):
        yield
        return
    request.getfixturevalue("_django_db_helper")
    yield
    if not connection.needs_rollback:  # nobody answers in a transaction that has failed
        wrong = invariants.violations(but=invariants.broken_by(request.node))
        assert not wrong, "\n".join(wrong)
