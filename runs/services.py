"""Verbs about runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.core.ids import new_uuid
from pyflow.core.inputs import accept_input
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.core.suspension import Signal
from pyflow.nodes.approval import check_decision
from runs import dispatch
from runs.errors import RunFinishedError, RunNotFoundError
from runs.models import NodeRun, Run, RunEvent, RunSignal
from runs.stores import waiting_signals
from workflows.models import Version
from workflows.services import latest_version, plan_of

DEFAULT_PRIORITY = 5


def start_run(*, tenant_id: UUID, workflow_name: str, input: dict[str, Any]) -> Run:
    """Accept a run of the newest version. Once this returns, the run will be executed, whatever happens.

    Raises ``WorkflowMissingError`` or ``InputError``.
    """
    version = latest_version(tenant_id=tenant_id, name=workflow_name)
    return start_version(version=version, input=input)


def start_version(
    *,
    version: Version,
    input: dict[str, Any],
    run_id: UUID | None = None,
    parent_id: UUID | None = None,
    lineage: list[str] | None = None,
) -> Run:
    """Accept a run of one version. Raises ``InputError``."""
    workflow = plan_of(version).workflow
    accepted = accept_input(workflow, input)
    settings, now = workflow.settings, timezone.now()
    with transaction.atomic():
        run = Run(
            id=run_id or new_uuid(),
            parent_id=parent_id,
            lineage=lineage or [],
            tenant_id=version.tenant_id,
            workflow=version.workflow,
            version=version,
            state=RunState.QUEUED.value,
            input=accepted,
            priority=settings.priority or DEFAULT_PRIORITY,
            queue_deadline=None if settings.queue_timeout is None else now + timedelta(seconds=settings.queue_timeout),
            created_at=now,
            event_seq=1,
        )
        run.save(force_insert=True)
        queued = RunEvent(
            tenant_id=version.tenant_id,
            run=run,
            seq=1,
            type=str(EventType.RUN_QUEUED),
            at=now,
            data={"state": run.state},
        )
        queued.save(force_insert=True)
        dispatch.nudge()
    return run


def find_run(*, tenant_id: UUID, run_id: UUID) -> Run:
    """A tenant's run, with its workflow and version. Raises ``RunNotFoundError``."""
    run = Run.objects.for_tenant(tenant_id).select_related("workflow", "version").filter(pk=run_id).first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}.")
    return run


def start_child(
    *, parent_id: UUID, tenant_id: UUID, run_id: UUID, workflow_name: str, input: dict[str, Any], lineage: list[str]
) -> None:
    """Start the child run ``run_id``, unless it was started before. Raises as ``start_run`` does."""
    if Run.objects.for_tenant(tenant_id).filter(pk=run_id).exists():
        return
    version = latest_version(tenant_id=tenant_id, name=workflow_name)
    try:
        start_version(version=version, input=input, run_id=run_id, parent_id=parent_id, lineage=lineage)
    except IntegrityError:
        return  # a zombie of the parent was quicker; there is one child all the same


def cancel_run(*, tenant_id: UUID, run_id: UUID) -> Run:
    """Ask a run to stop: running nodes are cancelled, what completed is compensated, ``finally`` runs.

    Asking twice is asking once. Raises ``RunNotFoundError`` or ``RunFinishedError``.
    """
    with transaction.atomic():
        run = _locked(tenant_id, run_id)
        if run.cancel_requested_at is None:
            run.cancel_requested_at = timezone.now()
            if run.state != RunState.RUNNING:
                run.state = RunState.QUEUED.value
            run.save(update_fields=["cancel_requested_at", "state"])
        dispatch.nudge()
    return run


def signal_run(*, tenant_id: UUID, run_id: UUID, name: str, payload: Any, signal_id: str | None) -> bool:
    """Deliver a signal: to the node that waits for it, or to the one that will.

    ``False`` if a signal of this id was delivered before. Raises ``RunNotFoundError``, ``RunFinishedError``, or what
    an approval says of a decision of the wrong shape.
    """
    with transaction.atomic():
        run = _locked(tenant_id, run_id)
        _check_decision(run, name, payload)
        _, created = RunSignal.objects.for_tenant(tenant_id).get_or_create(
            run=run,
            dedupe_id=signal_id or str(new_uuid()),
            defaults={"tenant_id": tenant_id, "name": name, "payload": payload},
        )
        if created and run.state == RunState.WAITING:
            run.state = RunState.QUEUED.value
            run.save(update_fields=["state"])
        dispatch.nudge()
    return created


def _locked(tenant_id: UUID, run_id: UUID) -> Run:
    rows = Run.objects.for_tenant(tenant_id).select_related("workflow", "version").select_for_update(of=("self",))
    run = rows.filter(pk=run_id).first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}.")
    if run.state in TERMINAL_RUN_STATES:
        raise RunFinishedError(f"The run has ended already: it {run.state}.")
    return run


def _check_decision(run: Run, name: str, payload: Any) -> None:
    waiting = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run, state=NodeState.WAITING.value)
    for node in waiting:
        if node.wait is not None and node.wait["signal"] == name and name.startswith("approval:"):
            check_decision(node.wait["details"], payload)


def messages(run_ids: list[UUID]) -> tuple[list[tuple[UUID, Signal]], list[UUID]]:
    """What was said to runs that are being executed: signals nobody took yet, and which of them are to stop."""
    cancelled = Run.objects.across_tenants().filter(pk__in=run_ids, cancel_requested_at__isnull=False)
    return waiting_signals(run_ids), list(cancelled.values_list("pk", flat=True))


def abandon_child(*, run_id: UUID) -> None:
    """End a child run at once, without clean-up: its executor is fenced."""
    with transaction.atomic():
        run = Run.objects.across_tenants().select_for_update().get(pk=run_id)
        if run.state in TERMINAL_RUN_STATES:
            return
        error = {
            "code": "run_cancelled",
            "message": "terminated with its parent",
            "type": "CancelledError",
            "node_id": None,
        }
        run.state, run.error, run.finished_at = RunState.CANCELLED.value, error, timezone.now()
        run.epoch, run.owner, run.lease_until, run.event_seq = run.epoch + 1, "", None, run.event_seq + 1
        run.save()
        RunEvent(
            tenant_id=run.tenant_id,
            run=run,
            seq=run.event_seq,
            type=str(EventType.RUN_CANCELLED),
            at=run.finished_at,
            data={"state": run.state, "error": error},
        ).save(force_insert=True)
