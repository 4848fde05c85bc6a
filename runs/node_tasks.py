"""Node tasks: attempts of nodes that any worker of a queue executes, under a lease of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from pyflow.core.ids import new_uuid
from pyflow.core.plan import PlannedNode
from pyflow.core.remote import Outcome, Place, log_of, output_of
from pyflow.core.run_log import LogLine
from runs import dispatch
from runs.fence import hold_epoch
from runs.keeping import RunValues
from runs.leases import Claim, claim_of
from runs.models import SUSPECT_LOSSES, NodeTask, Run
from runs.reader import Call, answered
from runs.secrets import RunSecrets
from tenants.statements import ask
from tenants.transactions import retried

#: Items of a fan-out that are asked for together make tasks of so many at most.
CHUNK = 20
#: Tasks that may be why executors were lost with them.
_SUSPECT = Q(losses=SUSPECT_LOSSES)


class DatabaseRemoteNodes:
    """The ``RemoteNodes`` of one claimed run. ``call`` runs a function on the executor's database thread.

    ``waiting`` counts, for the executor, what each of its runs awaits from elsewhere. ``log`` keeps what they logged,
    ``report`` what a node says of its progress.
    """

    def __init__(
        self,
        claim: Claim,
        call: Call,
        waiting: Counter[UUID],
        secrets: RunSecrets,
        values: RunValues,
        log: Callable[[LogLine], None],
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._values = values
        self._claim = claim
        self._call = call
        self._waiting = waiting
        self._secrets = secrets
        self._log = log
        self._report = report
        #: The node of each task, and the moment of the last report of its progress that was passed on.
        self._nodes_of: dict[UUID, tuple[str, str | None]] = {}
        self._asked: list[tuple[PlannedNode, Place, asyncio.Future[object]]] = []
        self._sending: set[asyncio.Task[None]] = set()
        #: Those who wait for each task, in the order of its places.
        self.awaited: dict[UUID, list[asyncio.Future[object]]] = {}

    async def call(self, node: PlannedNode, place: Place) -> object:
        """See ``pyflow.core.remote.RemoteNodes``. What is asked for in one turn of the event loop is sent together."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._asked:
            sending = asyncio.ensure_future(self._send())
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        self._asked.append((node, place, future))
        self._waiting[self._claim.run_id] += 1
        try:
            return await future
        finally:
            self._waiting[self._claim.run_id] -= 1
            if not self._waiting[self._claim.run_id]:
                del self._waiting[self._claim.run_id]
            if future.cancelled():
                await asyncio.shield(self._forget())

    def report(self, task_id: UUID, progress: dict[str, Any]) -> None:
        """Pass on what a task reported of its progress, once."""
        node_id, at = self._nodes_of.get(task_id, ("", None))
        if task_id in self.awaited and at != progress["at"]:
            self._nodes_of[task_id] = node_id, progress["at"]
            self._report(node_id, progress)

    async def settle(self, task_id: UUID, outcomes: Sequence[Outcome]) -> None:
        """Hand the outcomes of a task to those who wait for them."""
        await self._secrets.adopt({mark for outcome in outcomes for mark in outcome.get("secrets", ())})
        for line in log_of(outcomes):
            self._log(line)
        self._nodes_of.pop(task_id, None)
        for future, outcome in zip(self.awaited.pop(task_id, ()), outcomes, strict=False):
            received = await self._values.receive(outcome)
            if not future.done():
                try:
                    future.set_result(output_of(received))
                except Exception as error:  # noqa: BLE001 - what the node raised, for whoever awaits the node
                    future.set_exception(error)

    async def _send(self) -> None:
        await asyncio.sleep(0)  # items that start together are asked for in the same turn
        asked, self._asked = self._asked, []
        rows: list[NodeTask] = []
        by_node: dict[str, list[tuple[PlannedNode, Place, asyncio.Future[object]]]] = {}
        for one in asked:
            by_node.setdefault(one[0].id, []).append(one)
        for node_id, ones in by_node.items():
            for first in range(0, len(ones), CHUNK):
                chunk = ones[first : first + CHUNK]
                row = NodeTask(
                    id=new_uuid(),
                    tenant_id=self._claim.tenant_id,
                    run_id=self._claim.run_id,
                    run_epoch=self._claim.epoch,
                    node_id=node_id,
                    places=[[place.attempt, place.started_at, place.index] for _, place, _ in chunk],
                    queue=chunk[0][0].definition.queue or self._claim.queue,
                )
                rows.append(row)
                self.awaited[row.pk] = [future for _, _, future in chunk]
                self._nodes_of[row.pk] = node_id, None
        try:
            await answered(self._call, insert_tasks, self._claim, rows, self.awaited)
        except Exception as error:  # noqa: BLE001 - each of those who wait is told
            for _, _, future in asked:
                if not future.done():
                    future.set_exception(error)

    async def _forget(self) -> None:
        """Remove tasks that nobody waits for any more: whoever executes one stops when it renews its lease."""
        gone = [task_id for task_id, futures in self.awaited.items() if all(future.done() for future in futures)]
        for task_id in gone:
            del self.awaited[task_id], self._nodes_of[task_id]
        if gone:
            await self._call(delete_tasks, gone)


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
    """Whether there is a task to claim. Every claim of runs asks this first."""
    if connection.vendor != "postgresql" or queues is None:
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
    suspects: bool = False,
) -> list[TaskClaim]:
    """Take up to ``limit`` tasks of ``queues`` (``None``: of all), the oldest first.

    ``active``: what ``owner`` executes already. Late with a renewal, it must not take its own tasks over.
    ``suspects``: only those that a `quarantine` is for, which others leave alone.
    """
    tasks = NodeTask.objects.across_tenants()
    if active:
        tasks = tasks.exclude(pk__in=active)
    if queues is not None:
        tasks = tasks.filter(queue__in=queues)
    open_ones = tasks.filter(_SUSPECT) if suspects else tasks.exclude(_SUSPECT)
    queued = open_ones.filter(lease_until__isnull=True, outcomes__isnull=True).order_by("queue", "id")
    if limit <= 0 or not (overdue or _any_queued(queues)):  # hardly ever any: no transaction for that
        return []
    with transaction.atomic():
        ids: list[UUID] = []
        if overdue and not suspects:
            ids = _take(tasks.filter(lease_until__lt=Now()).order_by("lease_until"), limit)
            NodeTask.objects.across_tenants().filter(pk__in=ids).update(losses=F("losses") + 1)
            ids = _set_suspects_aside(ids)
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


def suspect_tasks_wait(queues: Collection[str] | None) -> bool:
    """Whether a quarantine would find a task of ``queues`` (``None``: of any)."""
    tasks = NodeTask.objects.across_tenants().filter(_SUSPECT, lease_until__isnull=True, outcomes__isnull=True)
    return (tasks if queues is None else tasks.filter(queue__in=queues)).exists()


def _set_suspects_aside(lost: Collection[UUID]) -> list[UUID]:
    """Leave those that have become suspects to a quarantine; returns the others."""
    suspects = NodeTask.objects.across_tenants().filter(_SUSPECT, pk__in=lost)
    aside = set(suspects.values_list("pk", flat=True)) if lost else set()
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
    """Record the outcomes, once, and tell the run's executor. ``False`` if the task is not ours any more."""
    with transaction.atomic():
        ours = NodeTask.objects.across_tenants().filter(pk=taken.task_id, epoch=taken.epoch, outcomes__isnull=True)
        stored = ours.update(outcomes=outcomes, lease_until=None, owner="")
        if stored:
            dispatch.hint(taken.run.run_id)
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


def absolve_tasks(ids: Collection[UUID]) -> None:
    """Take a loss back from tasks that others took over while their executor was cut off or frozen: it lives."""
    lost = NodeTask.objects.across_tenants().filter(pk__in=ids, losses__gt=0, outcomes__isnull=True)
    lost.update(losses=F("losses") - 1)


def report_task(taken: TaskClaim, progress: dict[str, Any]) -> None:
    """Keep what the attempts of a task report, for the run's executor, which reads it with its next sweep."""
    ours = NodeTask.objects.across_tenants().filter(pk=taken.task_id, epoch=taken.epoch, outcomes__isnull=True)
    ours.update(progress=progress)


def read_outcomes(ids: Collection[UUID]) -> tuple[dict[UUID, list[Outcome]], dict[UUID, dict[str, Any]]]:
    """The outcomes of those tasks that are done, and what those that are not have reported last."""
    told = NodeTask.objects.across_tenants().filter(Q(outcomes__isnull=False) | Q(progress__isnull=False), pk__in=ids)
    rows = list(told)
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
            dispatch.nudge(queue)


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
