"""Deletes runs that are older than the plan of their tenant keeps them, a few at a time.

Nothing waits for it. Each batch is a transaction of its own and takes only rows that nobody has locked, and whatever is
still needed is left: runs that have not ended, and runs that such a run was started by, or repeats.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from pyflow.core.states import TERMINAL_RUN_STATES
from runs.models import EventRecord, Run
from runs.storage import log, values
from runs.storage.removal import remove_runs, remove_values
from runs.storage.values import Owner
from tenants import audit
from tenants.access import Actor
from tenants.models import Tenant
from tenants.plans import Quota
from tenants.quotas import limit_of
from tenants.retention import prune_traces

#: So many runs are removed in one transaction.
BATCH = 100
#: So many of a tenant by one call, unless it says otherwise: the next one goes on.
MOST_AT_ONCE = 20_000
#: How long the values of a run without a row are kept: it may be being started. Seconds.
GRACE_SECONDS = 24 * 3600.0


@dataclass(slots=True)
class Pruned:
    """Counts of what was deleted or, in a dry run, would be: runs by the slugs of their tenants, the rest by kind."""

    runs: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)


def prune(
    *,
    tenant: Tenant | None = None,
    older_than: timedelta | None = None,
    dry_run: bool = False,
    most: int = MOST_AT_ONCE,
) -> Pruned:
    """Remove what is kept no longer, of all tenants or of one.

    ``older_than``: what counts instead of the tenants' `retention_days`. ``most``: of each tenant's runs. For one
    tenant, only its runs, their values and its events are looked at. An entry of the tenant's audit for each batch
    of runs records how many there were.
    """
    pruned, events = Pruned(), 0
    for found in Tenant.objects.order_by("slug") if tenant is None else [tenant]:
        before = _cutoff(found.pk, older_than)
        if before is not None:
            count = _expired(found.pk, before).count() if dry_run else _prune_runs(found, before, most)
            if count:
                pruned.runs[found.slug] = count
            events += _prune_events(found.pk, before, dry_run=dry_run)
    pruned.others["events"] = events
    if tenant is None:
        pruned.others |= prune_traces(dry_run=dry_run)
    pruned.others["values"] = prune_values(tenant_id=None if tenant is None else tenant.pk, dry_run=dry_run)
    return pruned


def prune_values(*, tenant_id: UUID | None = None, dry_run: bool = False) -> int:
    """Remove the large values that belong to no run, and have not for a while; of how many runs.

    A process that was killed between the file and its row leaves such, and a storage that did not work for a while.
    """
    count = 0
    old = (owner for owner, at in values.store().owners(tenant_id) if at < time.time() - GRACE_SECONDS)
    while chunk := list(islice(old, BATCH)):
        rows = Run.objects.across_tenants().filter(pk__in=[owner.run_id for owner in chunk])
        known = {Owner(*row) for row in rows.values_list("tenant_id", "pk")}
        gone = [owner for owner in chunk if owner not in known]
        count += len(gone)
        if not dry_run:
            remove_values(gone)
    return count


def _prune_events(tenant_id: UUID, before: datetime, *, dry_run: bool) -> int:
    """Remove the events that belong to no run and are older, a few at a time; how many."""
    expired = EventRecord.objects.for_tenant(tenant_id).filter(run__isnull=True, at__lt=before).order_by("at")
    if dry_run:
        return expired.count()
    count = 0
    while ids := list(expired.values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            rows = EventRecord.objects.for_tenant(tenant_id).filter(pk__in=ids)
            log.remember_removal(tenant_id, rows)
            count += rows.delete()[0]
    return count


def _cutoff(tenant_id: UUID, older_than: timedelta | None) -> datetime | None:
    if older_than is not None:
        return timezone.now() - older_than
    days = limit_of(tenant_id, Quota.RETENTION_DAYS)
    return None if days is None else timezone.now() - timedelta(days=days)


def _prune_runs(tenant: Tenant, before: datetime, most: int) -> int:
    count = 0
    for removed in _batches(tenant, before):
        count += removed
        if count >= most:
            break
    return count


def _batches(tenant: Tenant, before: datetime) -> Iterator[int]:
    """Remove the expired runs, the oldest first; how many each transaction has removed.

    Each goes on where the last one was, so that what is kept is not read again and again. It has its turn at the
    tenant's audit before it locks anything, and then takes what nobody has locked: no run is kept from others while it
    waits, and whoever has locked one and waits for the audit is not waited for.
    """
    expired = _expired(tenant.pk, before).order_by("created_at", "id")
    by, target = Actor.system(tenant.pk, "prune"), f"tenant:{tenant.slug}"
    skip = connection.features.has_select_for_update_skip_locked
    after = Q()
    while found := list(expired.filter(after).values_list("created_at", "pk")[:BATCH]):
        with transaction.atomic():
            audit.take_turn(tenant.pk)
            locked = expired.filter(pk__in=[pk for _, pk in found]).order_by("pk")
            locked = locked.select_for_update(of=("self",), skip_locked=skip, no_key=True)
            free = _without_busy_referrers(tenant.pk, set(locked.values_list("pk", flat=True)))
            if free:  # nothing is removed without an entry, whatever ends this process
                pruned = {"runs": len(free), "finished_before": before.isoformat()}
                audit.record(by=by, action="runs.pruned", target=target, after=pruned)
                remove_runs(tenant_id=tenant.pk, run_ids=free, apart=True)
        yield len(free)
        at, pk = found[-1]
        after = Q(created_at__gt=at) | Q(created_at=at, pk__gt=pk)


def _without_busy_referrers(tenant_id: UUID, run_ids: set[UUID]) -> set[UUID]:
    """Return the runs without those that a locked run of another transaction refers to; locks the referring runs.

    Their references are cleared when the runs are deleted, by whoever has the audit: somebody who has locked one of
    them and waits for the audit would be waited for.
    """
    referring = Run.objects.for_tenant(tenant_id).filter(Q(parent__in=run_ids) | Q(source_run__in=run_ids))
    skip = connection.features.has_select_for_update_skip_locked
    locked = referring.select_for_update(of=("self",), skip_locked=skip, no_key=True).values_list("pk", flat=True)
    busy = referring.exclude(pk__in=list(locked)).values_list("parent_id", "source_run_id")
    return run_ids.difference(*busy)


def _expired(tenant_id: UUID, before: datetime) -> QuerySet[Run]:
    """The runs of a tenant that ended before, and that no run needs that has not ended."""
    live = Run.objects.for_tenant(tenant_id).exclude(state__in=TERMINAL_RUN_STATES)
    needed = (
        Exists(live.filter(pk=OuterRef("parent_id"))),
        Exists(live.filter(parent=OuterRef("pk"))),
        Exists(live.filter(source_run=OuterRef("pk"))),
    )
    ended = Run.objects.for_tenant(tenant_id).filter(state__in=TERMINAL_RUN_STATES, finished_at__lt=before)
    # Nothing ends before it was made: so the index of a tenant's runs by their age says where to stop.
    return ended.filter(created_at__lt=before).exclude(needed[0]).exclude(needed[1]).exclude(needed[2])
