"""Verbs about runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from pyflow.core.errors import PyFlowError
from pyflow.core.events import NODE_ENDS, RUN_ENDS, EventType
from pyflow.core.result import ErrorInfo
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.core.suspension import Signal
from runs import dispatch
from runs.errors import NodeNotFoundError, RunFinishedError, RunNotFoundError
from runs.models import NodeItem, NodeRun, NodeTask, Run, RunEvent, RunQuerySet
from runs.slots import leave_run
from runs.stores import storable_text, waiting_signals
from tenants import audit
from tenants.access import Actor
from tenants.compiled import CompiledQuery
from tenants.transactions import retried
from workflows.models import Workflow
from workflows.services import plan_of


def find_run(*, tenant_id: UUID, run_id: UUID) -> Run:
    """A tenant's run, with its workflow and the number of its version. Raises ``RunNotFoundError``."""
    for run in _run(tenant_id, run_id):
        return run
    raise RunNotFoundError(f"There is no run {run_id}.")


def find_runs(*, tenant_id: UUID, run_ids: Collection[UUID]) -> dict[UUID, Run]:
    """Those of the runs that the tenant has, each as of ``find_run``."""
    return {run.pk: run for run in Run.objects.for_tenant(tenant_id).filter(pk__in=run_ids).with_names()}


def runs_beside(*, tenant_id: UUID, run_ids: Collection[UUID], states: Collection[str]) -> set[UUID]:
    """Those of the tenant's runs that are in none of the states."""
    rows = Run.objects.for_tenant(tenant_id).filter(pk__in=run_ids).exclude(state__in=states)
    return set(rows.order_by().values_list("pk", flat=True))


def _found(tenant_id: UUID, run_id: UUID) -> RunQuerySet:
    return Run.objects.for_tenant(tenant_id).filter(pk=run_id)


_run = CompiledQuery(lambda tenant_id, run_id: _found(tenant_id, run_id).with_names())
#: Of a tenant's run, in their order.
nodes_of = CompiledQuery(lambda tenant_id, run_id: NodeRun.objects.for_tenant(tenant_id).filter(run=run_id))
first_events_of = CompiledQuery(
    lambda tenant_id, run_id: RunEvent.objects.for_tenant(tenant_id).filter(run=run_id).order_by("seq")[:EVENTS_SHOWN]
)


def progress_of_nodes(run: Run) -> list[dict[str, Any]]:
    """What the nodes of a run that is executed have reported: it changes without an event."""
    if run.state != RunState.RUNNING:
        return []
    rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run, progress__isnull=False).order_by("id")
    return [progress for progress in rows.values_list("progress", flat=True) if progress is not None]


#: So many events of a run are read with it.
EVENTS_SHOWN = 1000


def workflow_of_run(*, tenant_id: UUID, run_id: UUID) -> Workflow | None:
    """The workflow of a tenant's run, if there is such a run: what is shared of it is shared of its runs."""
    run = Run.objects.for_tenant(tenant_id).select_related("workflow").only("workflow").filter(pk=run_id).first()
    return None if run is None else run.workflow


def find_node(*, tenant_id: UUID, run_id: UUID, node_id: str) -> tuple[NodeRun, str]:
    """A node of a run, and its type; a pending one that is not stored if nothing happened to it yet.

    Raises ``RunNotFoundError`` or ``NodeNotFoundError``.
    """
    run = find_run(tenant_id=tenant_id, run_id=run_id)
    plan = plan_of(run.version)
    index = plan.by_id.get(node_id)
    if index is None:
        raise NodeNotFoundError(f"The workflow of this run has no node {node_id!r}.")
    node = NodeRun.objects.for_tenant(tenant_id).filter(run=run, node_id=node_id).first()
    return node or NodeRun(tenant_id=tenant_id, run=run, node_id=node_id), plan.nodes[index].type


def find_item(*, tenant_id: UUID, run_id: UUID, node_id: str, index: int) -> NodeItem:
    """An item of a fan-out that has come to anything. Raises ``RunNotFoundError`` or ``NodeNotFoundError``."""
    node, _ = find_node(tenant_id=tenant_id, run_id=run_id, node_id=node_id)
    item = NodeItem.objects.for_tenant(tenant_id).filter(run=node.run_id, node_id=node_id, index=index).first()
    if item is None:
        raise NodeNotFoundError(f"The node {node_id!r} has no item {index} on record.")
    return item


@retried
def cancel_run(*, by: Actor, run_id: UUID) -> Run:
    """Ask a run to stop: running nodes are cancelled, what completed is compensated, ``finally`` runs.

    Asking twice is asking once. Raises ``RunNotFoundError`` or ``RunFinishedError``.
    """
    with transaction.atomic():
        run = lock_run(by.tenant_id, run_id)
        if run.cancel_requested_at is None:
            before = {"state": run.state}
            run.cancel_requested_at, run.pause_requested_at = timezone.now(), None
            if run.state not in (RunState.RUNNING, RunState.QUEUED):
                run.move(RunState.QUEUED)
            run.save(update_fields=["cancel_requested_at", "pause_requested_at", "state"])
            after = {"cancel_requested_at": run.cancel_requested_at}
            audit.record(by=by, action="run.cancel_requested", target=f"run:{run_id}", before=before, after=after)
        ring_for(run)
    return run


def ring_for(run: Run) -> None:
    """Tell whoever executes a run, or will, that there is news of it."""
    if run.state == RunState.RUNNING:
        dispatch.hint(run.pk)
    else:
        dispatch.nudge(run.queue)


def lock_run(tenant_id: UUID, run_id: UUID) -> Run:
    """A run that is to be changed in this transaction. Raises ``RunNotFoundError`` or ``RunFinishedError``."""
    run = lock_any_run(tenant_id, run_id)
    if run.state in TERMINAL_RUN_STATES:
        raise has_ended(run)
    return run


def keep_run(*, tenant_id: UUID, run_id: UUID) -> None:
    """Have nobody remove a run until this transaction ends. Raises ``RunNotFoundError``."""
    rows = Run.objects.for_tenant(tenant_id).filter(pk=run_id).select_for_update(no_key=True)
    if not rows.values_list("pk").first():
        raise RunNotFoundError(f"There is no run {run_id}.")


def has_ended(run: Run) -> RunFinishedError:
    """What is said of a run that has ended to those who want something of it."""
    state = RunState(run.state)
    return RunFinishedError(state, f"The run has ended already, as {state}.")


def lock_any_run(tenant_id: UUID, run_id: UUID) -> Run:
    """As ``lock_run``, whether or not it has ended."""
    rows = Run.objects.for_tenant(tenant_id).with_names().select_for_update(of=("self",), no_key=True)
    run = rows.filter(pk=run_id).first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}.")
    return run


def lock_with_parents(tenant_id: UUID, run_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Lock runs of a tenant with their parents, in the order that writers keep; the workflow of each of ``run_ids``."""
    runs = Run.objects.for_tenant(tenant_id)
    asked = set(run_ids)
    parents = runs.filter(pk__in=asked, parent__isnull=False).order_by().values_list("parent_id", flat=True)
    rows = runs.filter(pk__in=asked.union(parents)).order_by("pk").select_for_update(no_key=True)
    return {pk: workflow for pk, workflow in rows.values_list("pk", "workflow") if pk in asked}


def lock_families(tenant_id: UUID, run_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Lock runs of a tenant with all above and below them that a verb may lock; the workflow of each of ``run_ids``.

    In the order that writers keep, too, and before the first entry of the audit, which everybody writes last: or two
    transactions could wait for each other.
    """
    asked = set(run_ids)
    while True:
        family = _families(tenant_id, asked)
        rows = Run.objects.for_tenant(tenant_id).filter(pk__in=family).order_by("pk").select_for_update(no_key=True)
        with transaction.atomic():
            known = {pk: workflow for pk, workflow in rows.values_list("pk", "workflow") if pk in asked}
            # A locked run starts no child, yet one may have done so before it was locked: that is locked in its place,
            # for which the others are let go.
            if _families(tenant_id, asked) <= family:
                return known
            transaction.set_rollback(True)


def _families(tenant_id: UUID, run_ids: set[UUID]) -> set[UUID]:
    """Runs, all that are below them, and their parents."""
    runs = Run.objects.for_tenant(tenant_id).order_by()
    family, generation = set(run_ids), run_ids
    while generation:
        generation = set(runs.filter(parent__in=generation).values_list("pk", flat=True)) - family
        family |= generation
    return family | set(runs.filter(pk__in=run_ids, parent__isnull=False).values_list("parent_id", flat=True))


@dataclass(frozen=True, slots=True)
class News:
    """What was said to runs that are being executed, and what happened to them elsewhere."""

    signals: list[tuple[UUID, Signal]]
    cancelled: list[UUID]
    paused: set[UUID]
    """Shall start no more nodes until they are resumed."""
    ended: list[UUID]
    """Not by their executor: they were terminated."""
    children: list[UUID]
    """Of the child runs that they wait for: those that have ended."""


def news(run_ids: Collection[UUID], children: Collection[UUID]) -> News:
    """What is new to the runs ``run_ids``, which are being executed and wait for ``children``."""
    asked = Q(pk__in=run_ids, cancel_requested_at__isnull=False)
    over = Q(pk__in=[*run_ids, *children], state__in=TERMINAL_RUN_STATES)
    paused = Q(pk__in=run_ids, pause_requested_at__isnull=False)
    rows = Run.objects.across_tenants().filter(asked | over | paused)
    found = list(rows.values_list("pk", "state", "cancel_requested_at"))
    ended = {run_id for run_id, state, _ in found if state in TERMINAL_RUN_STATES}
    stopped = {run_id for run_id, _, cancelled in found if cancelled is not None}
    return News(
        signals=waiting_signals(run_ids),
        cancelled=[run_id for run_id in run_ids if run_id in stopped - ended],
        paused={run_id for run_id, _, _ in found} - ended - stopped,
        ended=[run_id for run_id in run_ids if run_id in ended],
        children=[run_id for run_id in children if run_id in ended],
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends that its executor does not end: the states, and the error, of the run and of its open nodes."""

    run_state: RunState
    node_state: NodeState
    code: str
    node_code: str
    message: str
    type: str


TERMINATED = Ending(
    RunState.CANCELLED,
    NodeState.CANCELLED,
    "run_cancelled",
    "node_cancelled",
    "terminated with its parent",
    "CancelledError",
)
QUEUE_TIMEOUT = Ending(
    RunState.TIMED_OUT,
    NodeState.CANCELLED,
    "queue_timeout",
    "node_cancelled",
    "the run was not started within its `queue_timeout`",
    "TimeoutError",
)
WORKER_LOST = Ending(
    RunState.FAILED,
    NodeState.FAILED,
    "worker_lost",
    "worker_lost",
    "each worker that executed the run was lost with it; look for a node that kills its process, or uses up its memory",
    "WorkerLostError",
)


def failing(error: PyFlowError) -> Ending:
    """How a run ends that cannot be executed any further because of an error."""
    info = ErrorInfo.of(error, None)
    message = storable_text(info.message)
    return Ending(RunState.FAILED, NodeState.CANCELLED, info.code, "node_cancelled", message, info.type)


@retried
def end_run(*, run_id: UUID, ending: Ending, epoch: int | None = None, wait: bool = True) -> bool:
    """End a run from outside its execution, its open nodes with it; whoever executes it is fenced.

    ``False`` if it has ended already, or (with ``epoch``) belongs to another executor by now; unless it is to ``wait``,
    also if another transaction has locked it or its parent.
    """
    with transaction.atomic():
        run = _lock_with_parent(run_id, wait=wait)
        if run is None or run.state in TERMINAL_RUN_STATES or epoch not in (None, run.epoch):
            return False
        if run.state == RunState.RUNNING:
            dispatch.hint(run.pk)
        _end_now(run, ending, timezone.now())
        dispatch.ended([run.pk])
        # In a transaction of its own; if it fails, or nobody is left to do it, the slot is reconciled.
        transaction.on_commit(lambda: leave_run(run_id), robust=True)
        if run.parent_id is not None:
            _wake_parent(run.parent_id)
    return True


#: So many runs that were not started in time are ended at a time.
ENDED_AT_ONCE = 100


def end_unstarted() -> int:
    """End the queued runs whose ``queue_timeout`` is over, whether or not anybody would ever claim them; how many.

    Any process may do it, at any time: one that is claimed meanwhile has another epoch, and is its executor's.
    """
    late = Run.objects.across_tenants().filter(
        state=RunState.QUEUED.value, started_at__isnull=True, queue_deadline__lt=timezone.now()
    )
    found = list(late.order_by("queue_deadline").values_list("pk", "epoch")[:ENDED_AT_ONCE])
    # What is locked is ended by a later sweep: this one is part of claims, for which everybody's runs wait.
    return sum(end_run(run_id=run_id, epoch=epoch, ending=QUEUE_TIMEOUT, wait=False) for run_id, epoch in found)


def _lock_with_parent(run_id: UUID, *, wait: bool) -> Run | None:
    """Both rows in their order, which writers keep, too: so that no two wait for each other.

    ``None`` if somebody would have to be waited for, and shall not be.
    """
    runs = Run.objects.across_tenants()
    parent_id = runs.filter(pk=run_id).values_list("parent_id", flat=True).get()
    rows = runs.filter(pk__in=[run_id, parent_id]).order_by("pk")
    skip = not wait and connection.features.has_select_for_update_skip_locked
    locked = {run.pk: run for run in rows.select_for_update(no_key=True, skip_locked=skip)}
    return None if parent_id not in (None, *locked) else locked.get(run_id)


def _wake_parent(parent_id: UUID) -> None:
    """A parent that waits looks at its children again; one that is executed is told to."""
    parents = Run.objects.across_tenants().filter(pk=parent_id)
    if parents.filter(state=RunState.WAITING.value).update(state=RunState.QUEUED.value):
        dispatch.nudge(parents.values_list("queue", flat=True).get())
    else:
        dispatch.hint(parent_id)


def _end_now(run: Run, ending: Ending, now: datetime) -> None:
    rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run)
    open_nodes = list(rows.filter(state__in=[NodeState.RUNNING, NodeState.WAITING, NodeState.RETRYING]))
    error = {"message": ending.message, "type": ending.type}
    happened: list[tuple[EventType, str, dict[str, Any]]] = []
    for node in open_nodes:
        node.state, node.finished_at, node.wake_at, node.wait = ending.node_state.value, now, None, None
        node.error = error | {"code": ending.node_code, "node_id": node.node_id}
        data = {"attempt": node.attempts, "state": node.state, "error": node.error}
        happened.append((NODE_ENDS[ending.node_state], node.node_id, data))
    run.state, run.finished_at, run.wake_at = ending.run_state.value, now, None
    run.error = error | {"code": ending.code, "node_id": None}
    happened.append((RUN_ENDS[ending.run_state], "", {"state": run.state, "error": run.error}))
    events = [
        RunEvent(tenant_id=run.tenant_id, run=run, seq=seq, type=str(type), node_id=node_id, at=now, data=data)
        for seq, (type, node_id, data) in enumerate(happened, run.event_seq + 1)
    ]
    run.epoch, run.owner, run.lease_until, run.event_seq = run.epoch + 1, "", None, events[-1].seq
    below = Run.objects.for_tenant(run.tenant_id).filter(parent=run).exclude(state__in=TERMINAL_RUN_STATES)
    # Whoever ends it stops them next; a sweep does, if that is not done.
    run.children_to_stop = below.filter(on_parent_cancel__in=["terminate", "request_cancel"]).exists()
    run.save()
    tasks = NodeTask.objects.for_tenant(run.tenant_id).filter(run=run).select_for_update(no_key=True).order_by("pk")
    NodeTask.objects.for_tenant(run.tenant_id).filter(pk__in=list(tasks.values_list("pk", flat=True))).delete()
    rows.bulk_update(open_nodes, ["state", "finished_at", "wake_at", "wait", "error"])
    items = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run, state=NodeState.RETRYING.value)
    items.update(state=NodeState.CANCELLED.value)
    RunEvent.objects.bulk_create(events)
