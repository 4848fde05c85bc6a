"""Pause runs, and resume them."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.core.states import RunState
from runs.errors import RunStateError
from runs.models import Run
from runs.services.history import add_event, audit_action
from runs.services.locks import lock_run
from runs.services.news import notify_executor
from runs.storage import log
from tenants.access import Actor


def pause_run(*, by: Actor, run_id: UUID) -> Run:
    """Let no more nodes of a run start. Those that run go on to their end, and then no worker holds the run.

    Timers that come due, signals and ends of child runs wait for ``resume_run``; only ``settings.timeout`` counts on.
    Asking twice is asking once. Raises ``RunNotFoundError``, ``RunFinishedError``, or ``RunStateError`` if it has been
    asked to stop.
    """
    with transaction.atomic():
        run = lock_run(by.tenant_id, run_id)
        if run.cancel_requested_at is not None:
            raise RunStateError(RunState(run.state), "The run is being cancelled.", impossible=("pause", "cancel"))
        if run.pause_requested_at is None:
            before = {"state": run.state}
            run.pause_requested_at = timezone.now()
            if run.state != RunState.RUNNING:
                run.move(RunState.PAUSED)
                run.wake_at = None
                add_event(run, EventType.RUN_PAUSED, run.pause_requested_at)
            run.save(update_fields=["pause_requested_at", "state", "wake_at", *log.RUN_FIELDS])
            audit_action(by, "run.paused", run, before)
            notify_executor(run)
    return run


def resume_run(*, by: Actor, run_id: UUID) -> Run:
    """Let a paused run go on: what it waited for and came meanwhile counts at once.

    The pause does not count for its ``queue_timeout``. Raises ``RunNotFoundError``, ``RunFinishedError``, or
    ``RunStateError`` if it is not paused.
    """
    with transaction.atomic():
        run = lock_run(by.tenant_id, run_id)
        since, now = run.pause_requested_at, timezone.now()
        if since is None:
            raise RunStateError(RunState(run.state), f"The run is not paused: it is {run.state}.")
        before = {"state": run.state}
        run.pause_requested_at = None
        if run.queue_deadline is not None and run.started_at is None:
            run.queue_deadline += now - since
        if run.state == RunState.PAUSED:
            run.move(RunState.QUEUED)
            add_event(run, EventType.RUN_QUEUED, now)
        run.save(update_fields=["pause_requested_at", "state", "queue_deadline", *log.RUN_FIELDS])
        audit_action(by, "run.resumed", run, before)
        notify_executor(run)
    return run
