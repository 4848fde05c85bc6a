"""Endpoints of webhooks, and passes of a sender in the test's own thread."""

import asyncio
from typing import Any

from events.models import WebhookEndpoint
from events.webhooks.advancing import advance_endpoints
from events.webhooks.endpoints import create_endpoint
from events.webhooks.sending import Outcome, Taken, record_attempts, send, take_due
from tenants.models import Tenant
from tests.support.factories.rows import a_test

WEBHOOKS = "/api/v1/webhooks"
DELIVERIES = "/api/v1/deliveries"


def make_endpoint(tenant: Tenant, url: str = "https://receiver.example/", **values: Any) -> tuple[WebhookEndpoint, str]:
    """An endpoint and its secret."""
    return create_endpoint(by=a_test(tenant), url=url, **values)


def advance_all() -> None:
    """Make all deliveries that the log has events for."""
    while advance_endpoints():
        pass


def deliver(room: int = 100) -> list[Outcome | None]:
    """Make what deliveries there are, send what is due once, and record it."""
    advance_all()
    return send_all(take_due(room))


def send_all(taken: list[Taken]) -> list[Outcome | None]:
    """Send deliveries at the same time, and record what comes of it."""

    async def send_them() -> list[Outcome | None]:
        return await asyncio.gather(*(send(item) for item in taken))

    outcomes = asyncio.run(send_them())
    for item, outcome in zip(taken, outcomes, strict=True):
        assert outcome is None or record_attempts([(item, outcome)]) == 1
    return outcomes
