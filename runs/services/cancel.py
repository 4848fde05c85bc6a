"""Cancel runs: ask them to stop, to compensate and to run ``finally``."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from plumbing.database.transactions import retried
from pyflow.core.states import RunState
from runs.models import Run
from runs.services.locks import lock_run
from runs.services.news import notify_executor
from tenants import audit
from tenants.access import Actor


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
        notify_executor(run)
    return run
