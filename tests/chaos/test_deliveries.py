"""PostgreSQL crashes and comes back while webhooks are sent: none is lost, and what is sent twice has one id."""

import pytest
from django.db import connections
from django.utils import timezone

from events.models import Delivery
from events.webhooks.sender import WebhookSender
from runs.network import network_policy
from runs.storage import log
from tests.chaos.world import ChaosWorld
from tests.support import waiting
from tests.support.factories.webhooks import make_endpoint
from tests.support.servers.receiver import receiving

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(120)]
EVENTS = 12


def test_deliveries_survive_a_crash_of_the_database(world: ChaosWorld, settings):
    settings.PYFLOW_ALLOWED_NETWORKS, settings.PYFLOW_SWEEP_SECONDS = ["127.0.0.0/8"], 0.2
    network_policy.cache_clear()
    sender = WebhookSender()
    with receiving() as receiver:
        make_endpoint(world.tenant, receiver.url, types=["order.*"])
        sender.start()
        try:
            _emit(world, EVENTS // 2)
            waiting.until(lambda: len(receiver.received) >= EVENTS // 2, what="the first deliveries")
            receiver.open.clear()  # the next ones are under way when the database goes
            _emit(world, EVENTS // 2)
            waiting.until(lambda: len(receiver.received) > EVENTS // 2, what="requests under way")
            world.stop_postgres()
            receiver.open.set()
            world.site.postgres.start()
            rows = Delivery.objects.for_tenant(world.tenant)
            # What was answered while nobody could record it is sent again once its lease has ended.
            rows.filter(leased=True).update(due_at=timezone.now())
            waiting.until(lambda: rows.filter(state="delivered").count() == EVENTS, 60, "all deliveries")
        finally:
            sender.stop(timeout=30)
            network_policy.cache_clear()
    ids = set(rows.values_list("id", flat=True))
    assert len(ids) == EVENTS
    assert {item.id for item in receiver.received} == {row.message_id for row in rows}


def _emit(world: ChaosWorld, count: int) -> None:
    for number in range(count):
        data = {"number": number}
        log.append_outside(tenant_id=world.tenant.pk, type="order.paid", at=timezone.now(), data=data)
    connections["default"].close()
