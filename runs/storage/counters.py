"""Counters of quotas beside the rows that they count: what they should say, and their repair."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max, Sum
from django.utils import timezone

from plumbing.database.dialect import is_postgresql
from runs.models import Run
from tenants import audit, quotas
from tenants.access import Actor
from tenants.models import AuditEntry, Tenant
from tenants.plans import Quota
from workflows.models import OctetLength, Version

logger = logging.getLogger(__name__)
#: So many runs are in memory at a time.
CHUNK = 500
#: Counters whose amounts follow from rows.
REPAIRABLE = (Quota.RUNS_PER_DAY, Quota.STORED_BYTES)
#: The audit's name of a repair.
REPAIRED = "usage.repaired"


@dataclass(frozen=True, slots=True)
class Repair:
    """A counter of a tenant that said something else than its rows."""

    tenant: str
    quota: Quota
    said: int
    should_say: int


def counted(tenant_id: UUID) -> dict[Quota, int]:
    """Count, from its rows, what the counters of a tenant should say; for the day's runs it is a lower bound.

    (Runs that were removed count for the day on which they were accepted.)
    """
    versions = Version.objects.for_tenant(tenant_id).aggregate(size=Sum(OctetLength("source")))["size"] or 0
    runs = Run.objects.for_tenant(tenant_id).order_by()
    stored = runs.only("input", "input_ref", "value_bytes").iterator(CHUNK)
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        Quota.STORED_BYTES: versions + sum(run.stored_bytes for run in stored),
        Quota.RUNS_PER_DAY: runs.filter(created_at__gte=midnight).count(),
    }


def repair_counters(tenant: Tenant | None = None) -> list[Repair]:
    """Compare the counters of all tenants, or of one, with their rows, and repair those that differ; which these were.

    Any process may do it, at any time. What differs in one snapshot of the database is added to the counter, so that
    nothing is lost of what others count meanwhile. A repair is logged, and is an entry of the tenant's audit.
    """
    found: list[Repair] = []
    for each in Tenant.objects.order_by("slug") if tenant is None else [tenant]:
        found += _repair(each)
    return found


def _repair(tenant: Tenant) -> list[Repair]:
    with _snapshot():
        known = _last_repair(tenant)
        # First what is said: if a day begins in between, there are no runs of it yet.
        said = {quota: quotas.counter(tenant_id=tenant.pk, quota=quota) for quota in REPAIRABLE}
        should = counted(tenant.pk)
    wrong = [quota for quota in REPAIRABLE if _differs(quota, said[quota], should[quota])]
    if not wrong:
        return []
    with transaction.atomic():
        for quota in wrong:
            quotas.count_anyway(tenant_id=tenant.pk, quota=quota, amount=should[quota] - said[quota])
        entry = audit.record(
            by=Actor.system(tenant.pk, "repair of counters"),
            action=REPAIRED,
            target=f"tenant:{tenant.slug}",
            before={quota.value: said[quota] for quota in wrong},
            after={quota.value: should[quota] for quota in wrong},
        )
        # Repairs of a tenant come one at a time from here on, for the sake of its audit: whoever compared before
        # another's repair was committed must not add the same difference again.
        if _last_repair(tenant, before=entry.seq) != known:
            transaction.set_rollback(True)
            return []
    for quota in wrong:
        message = "the counter of %s of tenant %s said %d, and is %d now, as its rows are"
        logger.warning(message, quota, tenant.slug, said[quota], should[quota])
    return [Repair(tenant.slug, quota, said[quota], should[quota]) for quota in wrong]


def _differs(quota: Quota, said: int, should_say: int) -> bool:
    return said < should_say if quota is Quota.RUNS_PER_DAY else said != should_say


def _last_repair(tenant: Tenant, before: int | None = None) -> int | None:
    entries = AuditEntry.objects.for_tenant(tenant).filter(action=REPAIRED)
    if before is not None:
        entries = entries.filter(seq__lt=before)
    found: int | None = entries.aggregate(last=Max("seq"))["last"]
    return found


@contextmanager
def _snapshot() -> Iterator[None]:
    """Read all of one state of the database: counters change in the transactions of their rows (SQLite: always)."""
    with transaction.atomic(durable=True):
        if is_postgresql():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
