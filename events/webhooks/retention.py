"""Removes deliveries that are kept no longer, a few at a time."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from events.models import Delivery
from tenants.plans import Quota
from tenants.quotas import limit_of

#: How many days a finished delivery is kept, unless the tenant's plan keeps runs for less.
MOST_DAYS = 30
#: So many are removed in one transaction.
BATCH = 500


def prune_deliveries() -> int:
    """Remove finished deliveries, of all tenants, that are older than they are kept; return how many."""
    finished = Delivery.objects.across_tenants().filter(finished_at__isnull=False)
    tenants = finished.order_by().values_list("tenant_id", flat=True).distinct()
    return sum(_prune(tenant_id) for tenant_id in list(tenants))


def _prune(tenant_id: UUID) -> int:
    limit = limit_of(tenant_id, Quota.RETENTION_DAYS)
    days = MOST_DAYS if limit is None else min(limit, MOST_DAYS)
    old = Delivery.objects.for_tenant(tenant_id).filter(finished_at__lt=timezone.now() - timedelta(days=days))
    skip, removed, count = connection.features.has_select_for_update_skip_locked, 0, BATCH
    while count == BATCH:
        with transaction.atomic():
            ids = old.select_for_update(skip_locked=skip, no_key=True).order_by("pk").values_list("pk", flat=True)
            chosen = list(ids[:BATCH])
            count = len(chosen)
            Delivery.objects.for_tenant(tenant_id).filter(pk__in=chosen).delete()
        removed += count
    return removed
