"""Receivers of webhooks, which the network policy of the test allows, and a clock that stands still."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from runs.network import network_policy
from tenants.models import Tenant
from tests.support.factories.rows import make_tenant
from tests.support.servers.receiver import Receiver, receiving


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant()


@pytest.fixture(autouse=True)
def loopback_is_allowed(settings) -> Iterator[None]:
    settings.PYFLOW_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    network_policy.cache_clear()
    yield
    network_policy.cache_clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class Clock:
    """The time of Django, which passes when a test says so."""

    def __init__(self) -> None:
        self.now = timezone.now()

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, delta: timedelta) -> None:
        """Move on."""
        self.now += delta


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timezone, "now", clock)
    return clock
