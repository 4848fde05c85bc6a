"""Fixtures for every test. What must come before Django's settings is in `tests/support/session.py`."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import override_settings

from tenants import failures, keys, principals
from tenants.limits import MemoryLimiter
from tests.support import emptying, invariants, passwords, template

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
    """Keep the test databases: their server or folder goes with them, and one may begin as a copy of the template."""
    return True


@pytest.fixture(scope="session")
def django_db_setup(request: pytest.FixtureRequest, django_db_blocker) -> None:
    """Make the test database of the session's template, or the template of it."""
    request.getfixturevalue("django_db_modify_db_settings")
    with django_db_blocker.unblock(), template.filling():
        request.getfixturevalue("django_db_setup")


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
