"""Answers the questions of the app ``workflows`` about its runs, and records its changes in the log."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count
from django.utils import timezone

from pyflow.core.states import TERMINAL_RUN_STATES
from runs.models import Run
from runs.storage.log import append_outside
from runs.storage.removal import remove_runs
from workflows.dependents import Change

#: How many runs are removed, and how many inputs are in memory, at a time.
CHUNK = 1000


class RunsOfWorkflows:
    """Answers from the tables."""

    def exist(self, *, tenant_id: UUID, workflow_id: UUID) -> bool:
        return Run.objects.for_tenant(tenant_id).filter(workflow=workflow_id).exists()

    def in_flight(self, *, tenant_id: UUID, workflow_id: UUID) -> dict[int, int]:
        rows = Run.objects.for_tenant(tenant_id).filter(workflow=workflow_id).exclude(state__in=TERMINAL_RUN_STATES)
        counted = rows.order_by().values("version__number").annotate(count=Count("pk"))
        return {row["version__number"]: row["count"] for row in counted.order_by("version__number")}

    def delete(self, *, tenant_id: UUID, workflow_id: UUID) -> None:
        ids = Run.objects.for_tenant(tenant_id).filter(workflow=workflow_id).order_by("pk").values_list("pk", flat=True)
        while chunk := list(ids[:CHUNK]):
            remove_runs(tenant_id=tenant_id, run_ids=chunk)


def record_change(change: Change) -> None:
    """Append an event about a workflow to its tenant's log."""
    append_outside(
        tenant_id=change.workflow.tenant_id,
        type=change.type.value,
        at=timezone.now(),
        workflow_name=change.workflow.name,
        version_number=None if change.version is None else change.version.number,
        data=change.data | {"by": change.by.as_dict()},
    )
