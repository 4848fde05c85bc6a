"""Retry runs that did not succeed: continue them from their completed nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.execution.plan import COMPENSATE, MAIN, Plan
from runs.errors import RunStateError, RunUndoneError
from runs.models import NodeItem, NodeRun, Run
from runs.services.history import add_event, audit_action
from runs.services.locks import lock_any_run, lock_families
from runs.services.news import notify_executor
from runs.storage import log
from tenants.access import Actor
from workflows.services import plan_of

#: What a retry changes of a run.
_RETRIED = (
    *("state", "retries", "epoch", "losses", "outputs", "outputs_ref", "error", "started_at", "finished_at"),
    *("cancel_requested_at", "pause_requested_at", "queue_deadline", "children_to_stop", *log.RUN_FIELDS),
)


def retry_run(*, by: Actor, run_id: UUID) -> Run:
    """Take a run up again that did not succeed: the same run, the same version.

    What has completed stays, items of fan-outs too; what failed, was cancelled, skipped or not reached, is done (anew).
    `on_failure` and `finally` run again at the new end. A node that is done anew takes up the child run of its last
    attempt: one that failed is retried, one that is still ending is when it has ended. One whose work was undone is
    left as it is, and another one is started.

    Raises ``RunNotFoundError``, ``RunUndoneError`` if anything was compensated, or ``RunStateError`` if it has not
    ended or has succeeded.
    """
    with transaction.atomic():
        lock_families(by.tenant_id, [run_id])
        run = lock_any_run(by.tenant_id, run_id)
        before = {"state": run.state, "retries": run.retries}
        retry_ended(run, timezone.now())
        audit_action(by, "run.retried", run, before)
    return run


def retry_ended(run: Run, now: datetime) -> None:
    """Queue a run that did not succeed once more. It is locked, with all that is below it. Raises as ``retry_run``."""
    state, plan = RunState(run.state), plan_of(run.version)
    if state not in TERMINAL_RUN_STATES or state is RunState.SUCCEEDED:
        what = "has succeeded" if state in TERMINAL_RUN_STATES else f"has not ended, it is {state}"
        raise RunStateError(state, f"Only a run that did not succeed can be retried; this run {what}.")
    nodes = list(NodeRun.objects.for_tenant(run.tenant_id).filter(run=run))
    undone = [node.node_id for node in nodes if _section(plan, node) == COMPENSATE]
    if undone:
        message = f"What the run had done has been undone ({undone[0]}), so that it cannot go on from there."
        raise RunUndoneError(state, message, impossible=("retry",))
    again = [node for node in nodes if node.state != NodeState.SUCCEEDED or _section(plan, node) != MAIN]
    _forget(run, again)
    _retry_children(run, {node.node_id for node in again if _section(plan, node) == MAIN}, now)
    settings = plan.workflow.settings
    run.move(RunState.QUEUED)
    run.retries += 1
    run.epoch += 1  # whoever ended it may still have something on its way
    run.losses = 0
    run.outputs = run.outputs_ref = run.error = run.started_at = run.finished_at = None
    run.cancel_requested_at = run.pause_requested_at = None
    run.children_to_stop = False
    run.queue_deadline = None if settings.queue_timeout is None else now + timedelta(seconds=settings.queue_timeout)
    add_event(run, EventType.RUN_QUEUED, now, retry=run.retries)
    run.save(update_fields=_RETRIED)
    notify_executor(run)


def _section(plan: Plan, node: NodeRun) -> int | None:
    index = plan.by_id.get(node.node_id)
    return None if index is None else plan.nodes[index].section


def _forget(run: Run, nodes: Iterable[NodeRun]) -> None:
    """Make nodes as if nothing had happened to them, but for their completed items."""
    ids = [node.node_id for node in nodes]
    NodeRun.objects.for_tenant(run.tenant_id).filter(run=run, node_id__in=ids).update(**NodeRun.UNTOUCHED)
    items = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run, node_id__in=ids)
    items.exclude(state=NodeState.SUCCEEDED.value).delete()


def _retry_children(run: Run, nodes: Collection[str], now: datetime) -> None:
    """Let the next attempts of ``nodes`` take up the child runs of their last ones, whatever is recorded of the nodes.

    The clocks of those attempts begin now. Children of completed items stay as they are.
    """
    items = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run)
    kept = set(items.values_list("node_id", "key"))
    rows = Run.objects.for_tenant(run.tenant_id).filter(parent=run, called_by__isnull=False)
    last: dict[tuple[str, str | None], Run] = {}
    for child in (
        rows.exclude(on_parent_cancel="").with_names().select_for_update(of=("self",), no_key=True).order_by("pk")
    ):
        place = _place(child)["node_id"], _place(child)["item"]
        if place[0] in nodes and place not in kept and (place not in last or _turn(child) > _turn(last[place])):
            last[place] = child
    for child in sorted(last.values(), key=lambda child: child.pk):
        called_by = _place(child) | {"taken_up": run.retries + 1, "since": now.timestamp()}
        if child.state not in TERMINAL_RUN_STATES:
            called_by["again"] = child.cancel_requested_at is not None
        elif child.state != RunState.SUCCEEDED:
            try:
                retry_ended(child, now)
            except RunUndoneError:
                continue
        child.called_by = called_by
        child.save(update_fields=["called_by"])


def _turn(child: Run) -> tuple[int, int]:
    """Return the attempt of its parent's node that a child run was the last for."""
    place = _place(child)
    return (place["retry"], place["attempt"]) if "taken_up" not in place else (place["taken_up"], 1)


def _place(child: Run) -> dict[str, Any]:
    return child.called_by or {}
