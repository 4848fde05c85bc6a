"""Find runs of a tenant, their nodes, items, events and progress."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from plumbing.database.compiled import CompiledQuery
from pyflow.core.states import RunState
from runs.errors import NodeNotFoundError, RunNotFoundError
from runs.models import EventRecord, NodeItem, NodeRun, Run, RunQuerySet
from workflows.models import Workflow
from workflows.services import plan_of


def find_run(*, tenant_id: UUID, run_id: UUID) -> Run:
    """A tenant's run, with its workflow and the number of its version. Raises ``RunNotFoundError``."""
    for run in _run(tenant_id, run_id):
        return run
    raise RunNotFoundError(f"There is no run {run_id}.")


def find_runs(*, tenant_id: UUID, run_ids: Collection[UUID]) -> dict[UUID, Run]:
    """Return those of the runs that the tenant has, each as ``find_run`` does."""
    return {run.pk: run for run in Run.objects.for_tenant(tenant_id).filter(pk__in=run_ids).with_names()}


def runs_beside(*, tenant_id: UUID, run_ids: Collection[UUID], states: Collection[str]) -> set[UUID]:
    """Return the tenant's runs that are in none of the states."""
    rows = Run.objects.for_tenant(tenant_id).filter(pk__in=run_ids).exclude(state__in=states)
    return set(rows.order_by().values_list("pk", flat=True))


def _found(tenant_id: UUID, run_id: UUID) -> RunQuerySet:
    return Run.objects.for_tenant(tenant_id).filter(pk=run_id)


_run = CompiledQuery(lambda tenant_id, run_id: _found(tenant_id, run_id).with_names())
#: Of a tenant's run, in their order.
nodes_of = CompiledQuery(lambda tenant_id, run_id: NodeRun.objects.for_tenant(tenant_id).filter(run=run_id))
first_events_of = CompiledQuery(
    lambda tenant_id, run_id: (
        EventRecord.objects.for_tenant(tenant_id).filter(run=run_id).order_by("seq")[:EVENTS_SHOWN]
    )
)


def progress_of_nodes(run: Run) -> list[dict[str, Any]]:
    """Return the progress that the nodes of an active run have reported: it changes without an event."""
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
