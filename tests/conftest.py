"""Fixtures for every test. What must come before Django's settings is in `tests/support/servers.py`."""

import pytest

from tenants import failures, principals
from tenants.limits import MemoryLimiter
from tests.support import append_only

append_only.empty_tables_after_tests()


@pytest.fixture(autouse=True)
def nobody_is_known(monkeypatch) -> None:
    """No test believes what another one has checked, nor pays for what another one got wrong."""
    principals.cache.clear()
    monkeypatch.setattr(failures, "limiter", MemoryLimiter())
