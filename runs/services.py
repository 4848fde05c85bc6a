"""Verbs about runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.core.inputs import accept_input
from pyflow.core.states import RunState
from runs import dispatch
from runs.errors import RunNotFoundError
from runs.models import Run, RunEvent
from workflows.models import Version
from workflows.services import latest_version, plan_of


def start_run(*, tenant_id: UUID, workflow_name: str, input: dict[str, Any]) -> Run:
    """Accept a run of the newest version. Once this returns, the run will be executed, whatever happens.

    Raises ``WorkflowMissingError`` or ``InputError``.
    """
    version = latest_version(tenant_id=tenant_id, name=workflow_name)
    return start_version(version=version, input=input)


def start_version(*, version: Version, input: dict[str, Any]) -> Run:
    """Accept a run of one version. Raises ``InputError``."""
    accepted = accept_input(plan_of(version).workflow, input)
    now = timezone.now()
    with transaction.atomic():
        run = Run(
            tenant_id=version.tenant_id,
            workflow=version.workflow,
            version=version,
            state=RunState.QUEUED.value,
            input=accepted,
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
