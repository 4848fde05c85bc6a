"""Deletes rows of slots that are older than the plan of their tenant keeps runs."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from tenants.models import Tenant
from tenants.plans import Quota
from tenants.quotas import limit_of
from triggers.models.schedules import ScheduleFire

#: Rows of one statement.
BATCH = 1_000


def prune_fires() -> int:
    """Delete what is kept no longer; how many rows. Slots that wait, or whose runs are active, stay."""
    count = 0
    for tenant in Tenant.objects.order_by("slug"):
        days = limit_of(tenant.pk, Quota.RETENTION_DAYS)
        if days is None:
            continue
        rows = ScheduleFire.objects.for_tenant(tenant.pk)
        old = rows.filter(state__in=ScheduleFire.FINAL, fired_at__lt=timezone.now() - timedelta(days=days))
        while found := list(old.values_list("pk", flat=True)[:BATCH]):
            count += rows.filter(pk__in=found).delete()[0]
    return count
