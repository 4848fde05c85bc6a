"""Deliveries and failures are kept for a time, and the newest of each webhook."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.factories.hooks import make_hook, with_triggers
from tests.support.factories.rows import make_workflow
from triggers.models import EventTrigger, HookDelivery, InboundHook, TriggerFailure
from triggers.services import retention

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def hook(tenant) -> InboundHook:
    make_hook(tenant, "{scheme: none}")
    return InboundHook.objects.for_tenant(tenant).get()


def deliveries(hook, ages):
    now = timezone.now()
    HookDelivery.objects.bulk_create(
        HookDelivery(
            tenant_id=hook.tenant_id,
            hook=hook,
            outcome="accepted",
            method="POST",
            size=0,
            delivery_id=str(age),
            received_at=now - age,
        )
        for age in ages
    )


def kept(hook):
    rows = HookDelivery.objects.for_tenant(hook.tenant_id).order_by("received_at")
    return list(rows.values_list("delivery_id", flat=True))


def test_deliveries_are_kept_for_thirty_days(hook):
    old, young = timedelta(days=30, seconds=5), timedelta(days=29)
    deliveries(hook, [old, young])
    assert retention.prune_triggers() == 1
    assert kept(hook) == [str(young)]


def test_the_newest_of_each_webhook_are_kept(hook, monkeypatch):
    monkeypatch.setattr(retention, "MOST_DELIVERIES", 3)
    monkeypatch.setattr(retention, "BATCH", 2)
    ages = [timedelta(minutes=minutes) for minutes in range(8)]
    deliveries(hook, ages)
    assert retention.prune_triggers() == 5
    assert kept(hook) == [str(age) for age in reversed(ages[:3])]


def test_failures_go_when_nothing_is_tried_any_more(tenant):
    make_workflow(tenant, with_triggers("{id: on, type: event, config: {on: order.paid}}"))
    trigger = EventTrigger.objects.for_tenant(tenant).get()
    old = timezone.now() - timedelta(days=31)
    for state in ("waiting", "dead", "resolved"):
        TriggerFailure.objects.create(
            tenant=tenant, trigger=trigger, slot=state, facts={}, error={}, state=state, updated_at=old
        )
    assert retention.prune_triggers() == 2
    assert TriggerFailure.objects.for_tenant(tenant).get().state == "waiting"
