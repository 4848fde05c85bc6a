"""Node tasks: attempts of nodes that any worker of a queue executes, under a lease of its own."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import ask
from plumbing.database.transactions import retried
from pyflow.execution.remote import Outcome, Place
from runs.models import POISON_LOSSES, NodeTask, Run
from runs.notify.current import notifications
from runs.queue.fence import hold_epoch
from runs.queue.leases import Claim, claim_of

#: Tasks that may be why executors were lost with them.
_POISON = Q(losses=POISON_LOSSES)


@dataclass(frozen=True, slots=True)
class TaskClaim:
    """A task that is ours while its lease lasts, and the run that it is of (which is another's)."""

    task_id: UUID
    epoch: int
    losses: int
    node_id: str
    places: list[Place]
    run: Claim


def _any_queued(queues: Collection[str] | None) -> bool:
    """Return whether there is a task to claim. Every claim of runs asks this first."""
    if not is_postgresql() or queues is None:
        rows = NodeTask.objects.across_tenants().filter(lease_until__isnull=True, outcomes__isnull=True)
        return (rows if queues is None else rows.filter(queue__in=queues)).exists()
    where = "lease_until IS NULL AND outcomes IS NULL AND queue = ANY(%s)"
    statement = f"SELECT EXISTS (SELECT FROM {NodeTask._meta.db_table} WHERE {where})"  # noqa: S608 - names of ours
    return bool(ask(statement, [list(queues)]))


@retried
def claim_tasks(
    owner: str,
    limit: int,
    queues: Collection[str] | None,
    active: Collection[UUID] = (),
    *,
    overdue: bool,
    poison_runs: bool = False,
) -> list[TaskClaim]:
    """Take up to ``limit`` tasks of ``queues`` (``None``: of all), the oldest first.

    ``active``: what ``owner`` executes already. Late with a renewal, it must not take its own tasks over.
    ``poison_runs``: only those that a `quarantine` is for, which others leave alone.
    """
    tasks = NodeTask.objects.across_tenants()
    if active:
        tasks = tasks.exclude(pk__in=active)
    if queues is not None:
        tasks = tasks.filter(queue__in=queues)
    open_ones = tasks.filter(_POISON) if poison_runs else tasks.exclude(_POISON)
    queued = open_ones.filter(lease_until__isnull=True, outcomes__isnull=True).order_by("queue", "id")
    if limit <= 0 or not (overdue or _any_queued(queues)):  # hardly ever any: no transaction for that
        return []
    with transaction.atomic():
        ids: list[UUID] = []
        if overdue and not poison_runs:
            ids = _take(tasks.filter(lease_until__lt=Now()).order_by("lease_until"), limit)
            NodeTask.objects.across_tenants().filter(pk__in=ids).update(losses=F("losses") + 1)
            ids = _set_poison_tasks_aside(ids)
        ids += _take(queued, limit - len(ids))
        if not ids:
            return []
        taken = NodeTask.objects.across_tenants().filter(pk__in=ids)
        taken.update(owner=owner, lease_until=_lease_end(), epoch=F("epoch") + 1)
        rows = list(taken)
        runs = Run.objects.across_tenants().filter(pk__in={row.run_id for row in rows})
        claims = {run.pk: claim_of(run) for run in runs.select_related("version", "workflow", "tenant")}
    return [
        TaskClaim(
            row.pk, row.epoch, row.losses, row.node_id, [Place(*place) for place in row.places], claims[row.run_id]
        )
        for row in rows
    ]


def poison_tasks_wait(queues: Collection[str] | None) -> bool:
    """Return whether poison tasks of ``queues`` wait (``None``: of any)."""
    tasks = NodeTask.objects.across_tenants().filter(_POISON, lease_until__isnull=True, outcomes__isnull=True)
    return (tasks if queues is None else tasks.filter(queue__in=queues)).exists()


def _set_poison_tasks_aside(lost: Collection[UUID]) -> list[UUID]:
    """Leave poison tasks among those that were lost to a quarantine; returns the others."""
    poison = NodeTask.objects.across_tenants().filter(_POISON, pk__in=lost)
    aside = set(poison.values_list("pk", flat=True)) if lost else set()
    if aside:
        ours = NodeTask.objects.across_tenants().filter(pk__in=aside)
        ours.update(owner="", lease_until=None, epoch=F("epoch") + 1)
    return [task_id for task_id in lost if task_id not in aside]


@retried
def renew_tasks(owner: str, ids: Collection[UUID]) -> set[UUID]:
    """Extend the leases that ``owner`` still holds; the others are not to be executed any longer."""
    with transaction.atomic():
        kept = _lock_held(owner, ids)
        NodeTask.objects.across_tenants().filter(pk__in=kept).update(lease_until=_lease_end())
    return kept


@retried
def finish_task(taken: TaskClaim, outcomes: list[Outcome]) -> bool:
    """Record the outcomes, once, and notify the run's executor. ``False`` if the task is not ours any more."""
    with transaction.atomic():
        ours = NodeTask.objects.across_tenants().filter(pk=taken.task_id, epoch=taken.epoch, outcomes__isnull=True)
        stored = ours.update(outcomes=outcomes, lease_until=None, owner="")
        if stored:
            notifications().notify_news(taken.run.run_id)
    return bool(stored)


@retried
def release_tasks(owner: str, ids: Collection[UUID]) -> set[UUID]:
    """Hand tasks back unfinished: they are queued again at once, and what their old owner says counts no more.

    Returns those that ``owner`` still held.
    """
    with transaction.atomic():
        held = _lock_held(owner, ids)
        tasks = NodeTask.objects.across_tenants().filter(pk__in=held)
        tasks.update(owner="", lease_until=None, epoch=F("epoch") + 1)
    return held


def clear_losses_of_tasks(ids: Collection[UUID]) -> None:
    """Take a loss back from tasks that others took over while their executor was cut off or frozen: it lives."""
    lost = NodeTask.objects.across_tenants().filter(pk__in=ids, losses__gt=0, outcomes__isnull=True)
    lost.update(losses=F("losses") - 1)


def report_task(taken: TaskClaim, progress: dict[str, Any]) -> None:
    """Keep what the attempts of a task report, for the run's executor, which reads it with its next sweep."""
    ours = NodeTask.objects.across_tenants().filter(pk=taken.task_id, epoch=taken.epoch, outcomes__isnull=True)
    ours.update(progress=progress)


def read_outcomes(ids: Collection[UUID]) -> tuple[dict[UUID, list[Outcome]], dict[UUID, dict[str, Any]]]:
    """The outcomes of those tasks that are done, and what those that are not have reported last."""
    changed = NodeTask.objects.across_tenants().filter(
        Q(outcomes__isnull=False) | Q(progress__isnull=False), pk__in=ids
    )
    rows = list(changed)
    done = {row.pk: row.outcomes for row in rows if row.outcomes is not None}
    return done, {row.pk: row.progress for row in rows if row.outcomes is None and row.progress is not None}


@retried
def delete_tasks(ids: Iterable[UUID]) -> None:
    """Remove tasks: their outcomes were handed on, or nobody waits for them."""
    NodeTask.objects.across_tenants().filter(pk__in=list(ids)).delete()


def drop_stale_tasks(epochs: dict[UUID, int]) -> None:
    """Remove what earlier executors of runs asked for: nobody waits for it."""
    stale = [
        task_id
        for task_id, run_id, epoch in NodeTask.objects.across_tenants()
        .filter(run__in=epochs)
        .values_list("pk", "run_id", "run_epoch")
        if epoch < epochs[run_id]
    ]
    delete_tasks(stale)


def unclaimed_task_queues() -> set[str]:
    """The queues with tasks that somebody should claim now."""
    tasks = NodeTask.objects.across_tenants()
    queued = tasks.filter(lease_until__isnull=True, outcomes__isnull=True)
    found = set(queued.order_by("queue", "id").values_list("queue", flat=True)[:100])
    return found | set(tasks.filter(lease_until__lt=Now()).values_list("queue", flat=True)[:100])


@retried
def insert_tasks(claim: Claim, rows: Sequence[NodeTask], awaited: Container[UUID]) -> None:
    """Ask for node tasks. Raises ``FencedError`` if the run has ended or is another executor's.

    It may be called again after it was done: a task that is there is not added, nor one that is not ``awaited`` any
    more.
    """
    rows = [row for row in rows if row.pk in awaited]
    with transaction.atomic():
        hold_epoch(claim.run_id, claim.epoch)
        NodeTask.objects.bulk_create(rows, ignore_conflicts=True)
        for queue in {row.queue for row in rows}:
            notifications().notify_queued(queue)


def _lock_held(owner: str, ids: Collection[UUID]) -> set[UUID]:
    held = NodeTask.objects.across_tenants().filter(pk__in=ids, owner=owner, lease_until__isnull=False)
    return set(held.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _take(tasks: QuerySet[NodeTask], limit: int) -> list[UUID]:
    if limit <= 0:
        return []
    locked = tasks.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked, no_key=True)
    return list(locked.values_list("pk", flat=True)[:limit])


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.PYFLOW_LEASE_SECONDS)
