"""Rerun runs: start a new run that may take over results of its source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import transaction

from pyflow.core.events import EventType
from pyflow.core.ids import new_uuid
from pyflow.core.result import REUSED
from pyflow.core.states import NodeState
from pyflow.execution.plan import MAIN, Plan
from runs.errors import RerunError
from runs.models import NodeItem, NodeRun, Run, Trigger
from runs.services.find import find_run
from runs.services.locks import keep_run
from runs.services.start import start_version
from runs.storage import log, values
from runs.storage.reading import input_of
from runs.storage.values import Owner, Reference
from tenants import audit, quotas
from tenants.access import Actor
from workflows.latest import latest_version
from workflows.models import Version
from workflows.services import check_not_archived, plan_of
from workflows.versions import startable_version

#: Nodes that were skipped because of what they are; others only because of how that run went.
_DECIDED = ("when", "run_if")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Action of a rerun on a node: take over its result, or run it; ``orphan``: it is in the source only."""

    node_id: str
    action: Literal["reuse", "run", "orphan"]


def plan_rerun(
    *, tenant_id: UUID, run_id: UUID, start_from: str | None, version: str | int
) -> tuple[Run, Version, list[NodePlan]]:
    """The run, the version that would run, and what would become of each node. Nothing is started.

    ``version``: ``original``, ``latest``, or a number. ``start_from``: that node and what comes after it is run; what
    does not come after it is reused where the source completed it, and undid nothing of it. ``None``: all is run.

    Raises ``RunNotFoundError``, ``RerunError``, or what looking the version up raises.
    """
    source = find_run(tenant_id=tenant_id, run_id=run_id)
    target = _version(source, version)
    plan = plan_of(target)
    recorded = {row.node_id: row for row in NodeRun.objects.for_tenant(tenant_id).filter(run=source)}
    reused = set() if start_from is None else _reusable(plan, recorded, start_from)
    main = [plan.nodes[index].id for index in plan.sections[MAIN]]
    steps = [NodePlan(node_id, "reuse" if node_id in reused else "run") for node_id in main]
    return source, target, steps + [NodePlan(node_id, "orphan") for node_id in recorded if node_id not in plan.by_id]


def rerun(
    *, by: Actor, run_id: UUID, start_from: str | None, version: str | int, input: Mapping[str, Any] | None = None
) -> Run:
    """Start a new run that repeats another one, with its input unless another is given. See ``plan_rerun``.

    What is reused is on record in the new run with the reason ``reused``; the new run does not undo it if it fails.
    Raises as ``plan_rerun`` and ``start_version`` do.
    """
    with transaction.atomic():
        # Until this is committed, nobody removes the source and the values that are copied: pruning passes it over.
        keep_run(tenant_id=by.tenant_id, run_id=run_id)
        source, target, steps = plan_rerun(
            tenant_id=by.tenant_id, run_id=run_id, start_from=start_from, version=version
        )
        given = input_of(source) if input is None else dict(input)
        run = start_version(version=target, input=given, by=by, trigger=Trigger.API)
        run.source_run = source
        run.labels = source.labels | run.labels
        _take_over(run, source, {step.node_id for step in steps if step.action == "reuse"})
        run.save(update_fields=["source_run", "labels", "value_bytes", *log.RUN_FIELDS])
        after = {"run": str(run.pk), "from": start_from, "version": target.number}
        audit.record(by=by, action="run.rerun", target=f"run:{run_id}", after=after)
    return run


def _version(source: Run, version: str | int) -> Version:
    if version == "latest":
        return latest_version(tenant_id=source.tenant_id, name=source.workflow.name)
    if isinstance(version, int):
        return startable_version(tenant_id=source.tenant_id, name=source.workflow.name, number=version)
    check_not_archived(source.workflow)
    original = source.version
    original.workflow = source.workflow
    return original


def _reusable(plan: Plan, recorded: Mapping[str, NodeRun], start_from: str) -> set[str]:
    """The nodes whose results are taken over: they are complete, and nothing that they depend on is run."""
    first = plan.by_id.get(start_from)
    if first is None or plan.nodes[first].section != MAIN:
        raise RerunError(f"The version to run has no node {start_from!r} in its section `nodes`.")
    run: set[int] = set()
    for index in plan.graph.order():
        row = recorded.get(plan.nodes[index].id)
        undone = f"{plan.nodes[index].id}:compensate" in recorded
        depends_on_run = any(dependency in run for dependency in plan.graph.dependencies[index])
        if index == first or depends_on_run or undone or row is None or not _is_complete(row):
            run.add(index)
    return {plan.nodes[index].id for index in plan.sections[MAIN] if index not in run}


def _is_complete(row: NodeRun) -> bool:
    if row.state == NodeState.SKIPPED:
        return row.reason.startswith(_DECIDED)
    return row.state == NodeState.SUCCEEDED or (row.tolerated and row.error is not None)


def _take_over(run: Run, source: Run, node_ids: Collection[str]) -> None:
    """Put results on record in a run that is being started, with an event for each."""
    nodes = list(NodeRun.objects.for_tenant(run.tenant_id).filter(run=source, node_id__in=node_ids))
    items = list(NodeItem.objects.for_tenant(run.tenant_id).filter(run=source, node_id__in=node_ids))
    happened: list[log.Happened] = []
    for row in nodes:
        succeeded = row.state == NodeState.SUCCEEDED
        data = {"state": row.state, "reused": str(source.pk)} | (_output(row) if succeeded else {})
        type = EventType.NODE_SUCCEEDED if succeeded else EventType.NODE_SKIPPED
        happened.append((type, row.node_id, data))
    for row in nodes:
        row.pk, row.run, row.reason, row.attempts = new_uuid(), run, REUSED, 0
    for item in items:
        item.pk, item.run = new_uuid(), run
    _copy_values(run, source, [*(row.output_ref for row in nodes), *(item.output_ref for item in items)])
    NodeRun.objects.bulk_create(nodes)
    NodeItem.objects.bulk_create(items)
    log.append(run, happened, at=run.created_at)


def _output(row: NodeRun) -> dict[str, Any]:
    return {"output": row.output} if row.output_ref is None else {"output_ref": row.output_ref}


def _copy_values(run: Run, source: Run, references: Collection[Any]) -> None:
    """Each run has its own values: one that is removed takes none away from another."""
    for reference in references:
        found = Reference.of(reference)
        if found is not None:
            values.store().copy(Owner(source.tenant_id, source.pk), Owner(run.tenant_id, run.pk), found.sha256)
            run.value_bytes += found.size
    if run.value_bytes:
        quotas.add_stored_bytes(tenant_id=run.tenant_id, amount=run.value_bytes)
