"""Who executes a run: claiming, renewing and giving back. All times are the database's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from pyflow.core.states import RunState
from runs.models import Run


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is ours while its lease lasts; ``epoch`` is the fencing token of every write."""

    run_id: UUID
    tenant_id: UUID
    tenant_slug: str
    workflow_name: str
    version_number: int
    checksum: str
    definition: str
    input: dict[str, Any]
    epoch: int
    parent_id: UUID | None
    lineage: tuple[str, ...]
    cancel_requested: bool
    too_late: bool
    begun_at: float | None


def claimable() -> Q:
    """Runs that wait for an executor, whose time has come, or whose executor stopped renewing its lease."""
    due = Q(state=RunState.WAITING.value, wake_at__lte=Now())
    return Q(state=RunState.QUEUED.value) | due | Q(state=RunState.RUNNING.value, lease_until__lt=Now())


def claim(owner: str, limit: int, run_id: UUID | None = None, active: Collection[UUID] = ()) -> list[Claim]:
    """Take up to ``limit`` runs, the most urgent and of those the oldest first (or only ``run_id`` and those below it).

    Two executors never get the same one.

    ``active``: what ``owner`` executes already. Late with a renewal, it must not take its own runs over.
    """
    with transaction.atomic():
        # Rows that others are claiming right now are passed over (SQLite: claims queue for its one lock instead).
        rows = Run.objects.across_tenants().select_for_update(
            skip_locked=connection.features.has_select_for_update_skip_locked
        )
        wanted = rows.filter(claimable()).order_by("-priority", "created_at")
        if run_id is not None:
            wanted = wanted.filter(pk__in=_family(run_id))
        if active:
            wanted = wanted.exclude(pk__in=active)
        ids = list(wanted.values_list("pk", flat=True)[:limit])
        if not ids:
            return []
        Run.objects.across_tenants().filter(pk__in=ids).update(
            state=RunState.RUNNING.value,
            owner=owner,
            lease_until=_lease_end(),
            wake_at=None,
            epoch=F("epoch") + 1,
            claims=F("claims") + 1,
        )
        runs = Run.objects.across_tenants().filter(pk__in=ids).select_related("version", "workflow", "tenant")
        return [_as_claim(run) for run in runs.order_by("-priority", "created_at")]


def renew(owner: str, run_ids: Iterable[UUID]) -> set[UUID]:
    """Extend the leases that ``owner`` still holds, in one statement, and return which those are."""
    with transaction.atomic():
        kept = _lock_held(owner, run_ids)
        Run.objects.across_tenants().filter(pk__in=kept).update(lease_until=_lease_end())
    return kept


def release(owner: str, run_ids: Iterable[UUID]) -> int:
    """Hand runs back unfinished: they are queued again at once. Returns how many."""
    with transaction.atomic():
        held = Run.objects.across_tenants().filter(pk__in=_lock_held(owner, run_ids))
        # A new epoch fences whatever the old owner still has on its way.
        return held.update(state=RunState.QUEUED.value, owner="", lease_until=None, epoch=F("epoch") + 1)


def _lock_held(owner: str, run_ids: Iterable[UUID]) -> set[UUID]:
    """Which of the runs ``owner`` holds, locked in the order that writers keep, too: so no two wait for each other."""
    held = Run.objects.across_tenants().filter(pk__in=list(run_ids), owner=owner, state=RunState.RUNNING.value)
    return set(held.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _family(run_id: UUID) -> set[UUID]:
    """A run and all below it."""
    family, generation = {run_id}, {run_id}
    while generation:
        children = Run.objects.across_tenants().filter(parent__in=generation)
        generation = set(children.values_list("pk", flat=True)) - family
        family |= generation
    return family


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.PYFLOW_LEASE_SECONDS)


def _as_claim(run: Run) -> Claim:
    return Claim(
        run_id=run.pk,
        tenant_id=run.tenant_id,
        tenant_slug=run.tenant.slug,
        workflow_name=run.workflow.name,
        version_number=run.version.number,
        checksum=run.version.checksum,
        definition=run.version.definition,
        input=run.input,
        epoch=run.epoch,
        parent_id=run.parent_id,
        lineage=tuple(run.lineage),
        cancel_requested=run.cancel_requested_at is not None,
        begun_at=None if run.started_at is None else run.started_at.timestamp(),
        too_late=run.started_at is None and run.queue_deadline is not None and run.queue_deadline < timezone.now(),
    )
