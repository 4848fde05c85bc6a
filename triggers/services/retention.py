"""Deletes deliveries of webhooks and failures of event triggers that are kept no longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from tenants.models import Tenant
from tenants.plans import Quota
from tenants.quotas import limit_of
from triggers.models import FailureState, HookDelivery, TriggerFailure

#: Rows of one transaction.
BATCH = 1_000
#: Deliveries of one webhook that are kept, the newest.
MOST_DELIVERIES = 1_000
#: Deliveries and failures are kept no longer, whatever the plan says.
MOST_DAYS = 30


def prune_triggers() -> int:
    """Delete what is kept no longer, of all tenants; how many rows. Failures that wait for an attempt stay."""
    count = 0
    for tenant in Tenant.objects.order_by("slug"):
        days = min(limit_of(tenant.pk, Quota.RETENTION_DAYS) or MOST_DAYS, MOST_DAYS)
        before = timezone.now() - timedelta(days=days)
        deliveries = HookDelivery.objects.for_tenant(tenant.pk)
        failures = TriggerFailure.objects.for_tenant(tenant.pk).exclude(state=FailureState.WAITING)
        count += sum(_removed(deliveries.filter(received_at__lt=before)))
        count += sum(_removed(failures.filter(updated_at__lt=before)))
        for hook_id in _crowded(deliveries):
            of_hook = deliveries.filter(hook=hook_id).order_by("-received_at", "-id")
            last = of_hook.values_list("received_at", flat=True)[MOST_DELIVERIES - 1]
            count += sum(_removed(of_hook.filter(received_at__lt=last)))
    return count


def _crowded(deliveries: QuerySet[HookDelivery]) -> list[UUID]:
    """Webhooks with more deliveries than are kept."""
    counted = deliveries.order_by().values("hook").annotate(count=Count("pk"))
    return list(counted.filter(count__gt=MOST_DELIVERIES).values_list("hook", flat=True))


def _removed(rows: QuerySet[Any]) -> Iterator[int]:
    """Delete rows a batch at a time; how many each transaction has deleted."""
    while True:
        with transaction.atomic():
            found = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
            rows.filter(pk__in=found).delete()
        yield len(found)
        if len(found) < BATCH:
            return
