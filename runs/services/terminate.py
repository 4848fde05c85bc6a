"""Terminate runs: end them at once, without compensation or ``finally``."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from django.db import transaction

from runs.models import Run
from runs.services.end import TERMINATED, end_run
from runs.services.find import find_run
from runs.services.history import audit_action
from runs.services.locks import has_ended, lock_with_parents
from runs.services.stop_children import stop_children_after_commit
from tenants.access import Actor

_TERMINATED = replace(TERMINATED, message="the run was terminated")


def terminate_run(*, by: Actor, run_id: UUID) -> Run:
    """End a run at once, as ``cancelled``: nothing is compensated, ``finally`` does not run.

    Once that is committed its child runs are terminated, asked to stop, or left alone, as their nodes say: each in a
    transaction of its own. Raises ``RunNotFoundError`` or ``RunFinishedError``.
    """
    with transaction.atomic():
        lock_with_parents(by.tenant_id, [run_id])
        before = find_run(tenant_id=by.tenant_id, run_id=run_id)
        was_ended_here = end_run(run_id=run_id, ending=_TERMINATED)
        run = find_run(tenant_id=by.tenant_id, run_id=run_id)
        if not was_ended_here:
            raise has_ended(run)
        stop_children_after_commit(run)
        audit_action(by, "run.terminated", run, {"state": before.state})
    return run
