"""End runs that no executor ends: record the end, and notify what waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from plumbing.database.transactions import retried
from pyflow.core.errors import PyFlowError
from pyflow.core.events import NODE_ENDS, RUN_ENDS
from pyflow.core.result import ErrorInfo
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from runs.models import NodeItem, NodeRun, NodeTask, Run
from runs.notify.current import notifications
from runs.queue.slots import leave_run
from runs.storage import log
from runs.storage.text import storable_text


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run that its executor does not record: the states, and the error, of the run and its open nodes."""

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
    """Return the ending of a run that cannot be executed any further because of an error."""
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
            notifications().notify_news(run.pk)
        _end_now(run, ending, timezone.now())
        notifications().notify_ended([run.pk])
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
    """Queue a parent that waits for its children; notify the executor of one that is executed."""
    parents = Run.objects.across_tenants().filter(pk=parent_id)
    if parents.filter(state=RunState.WAITING.value).update(state=RunState.QUEUED.value):
        notifications().notify_queued(parents.values_list("queue", flat=True).get())
    else:
        notifications().notify_news(parent_id)


def _end_now(run: Run, ending: Ending, now: datetime) -> None:
    rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run)
    open_nodes = list(rows.filter(state__in=[NodeState.RUNNING, NodeState.WAITING, NodeState.RETRYING]))
    error = {"message": ending.message, "type": ending.type}
    happened: list[log.Happened] = []
    for node in open_nodes:
        node.state, node.finished_at, node.wake_at, node.wait = ending.node_state.value, now, None, None
        node.error = error | {"code": ending.node_code, "node_id": node.node_id}
        data = {"attempt": node.attempts, "state": node.state, "error": node.error}
        happened.append((NODE_ENDS[ending.node_state], node.node_id, data))
    run.state, run.finished_at, run.wake_at = ending.run_state.value, now, None
    run.error = error | {"code": ending.code, "node_id": None}
    happened.append((RUN_ENDS[ending.run_state], "", {"state": run.state, "error": run.error}))
    log.append(run, happened, at=now)
    run.epoch, run.owner, run.lease_until = run.epoch + 1, "", None
    below = Run.objects.for_tenant(run.tenant_id).filter(parent=run).exclude(state__in=TERMINAL_RUN_STATES)
    # Whoever ends it stops them next; a sweep does, if that is not done.
    run.children_to_stop = below.filter(on_parent_cancel__in=["terminate", "request_cancel"]).exists()
    run.save()
    tasks = NodeTask.objects.for_tenant(run.tenant_id).filter(run=run).select_for_update(no_key=True).order_by("pk")
    NodeTask.objects.for_tenant(run.tenant_id).filter(pk__in=list(tasks.values_list("pk", flat=True))).delete()
    rows.bulk_update(open_nodes, ["state", "finished_at", "wake_at", "wait", "error"])
    between = [NodeState.RETRYING.value, NodeState.WAITING.value]
    items = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run, state__in=between)
    items.update(state=NodeState.CANCELLED.value, wake_at=None, wait=None)
