"""Collects from the database what explains the state of a run, with a bounded number of bounded queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import Count, Q
from django.utils import timezone

from pyflow.core.errors import PyFlowError
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.execution.plan import Plan
from runs.errors import RunNotFoundError
from runs.explain.diagnosis import (
    MOST_AHEAD,
    MOST_NAMES,
    MOST_NODES,
    Facts,
    awaited_children,
    explain,
    may_have_children,
)
from runs.explain.reasons import Explanation
from runs.models import NodeItem, NodeRun, NodeTask, Run, RunSignal
from runs.queue.fair_share import places_taken
from runs.queue.presence import presence_of
from runs.queue.slots import places_of
from tenants.plans import Quota
from tenants.quotas import limit_of
from workflows.services import plan_of

#: How many kept signals are named.
MOST_SIGNALS = 50
#: All but outputs: those may be long.
_LIGHT = (
    "node_id",
    "state",
    "attempts",
    "error",
    "reason",
    "tolerated",
    "started_at",
    "finished_at",
    "wake_at",
    "wait",
    "progress",
)
#: States of items that are between two attempts or rounds, or wait for something.
_WAITING = frozenset({NodeState.WAITING.value, NodeState.RETRYING.value})


def explain_run(*, tenant_id: UUID, run_id: UUID) -> Explanation:
    """Explain the state of a tenant's run. Raises ``RunNotFoundError``."""
    runs = Run.objects.for_tenant(tenant_id).select_related("workflow", "version")
    run = runs.defer("version__source", "input", "outputs").filter(pk=run_id).first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}.")
    nodes = {row.node_id: row for row in _of(run, NodeRun).only(*_LIGHT).order_by("id")}
    plan, broken = _plan(run)
    lives = run.state not in TERMINAL_RUN_STATES
    items = _items(run)
    tasks = _tasks(run) if run.state == RunState.RUNNING else []
    queues = {run.queue} if run.state == RunState.QUEUED else {task.queue for task in tasks if not task.owner}
    return explain(
        Facts(
            run=run,
            now=timezone.now(),
            plan=plan,
            broken=broken,
            nodes=nodes,
            items=items,
            waiting_items=_waiting_items(run) if any(_WAITING & counts.keys() for counts in items.values()) else {},
            tasks=tasks,
            children=_children(run, awaited_children(nodes)) if may_have_children(plan, nodes) else {},
            places=places_of(tenant_id=tenant_id, run_id=run_id) if lives else (),
            signals=_signals(run) if lives else (),
            presence=presence_of(queues) if queues else {},
            **(_queue(run) if run.state == RunState.QUEUED else {}),
        )
    )


def _of(run: Run, model: Any) -> Any:
    return model.objects.for_tenant(run.tenant_id).filter(run=run)


def _plan(run: Run) -> tuple[Plan | None, str]:
    try:
        return plan_of(run.version), ""
    except PyFlowError as error:  # of a node type that is not installed any more
        return None, str(error)


def _items(run: Run) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    rows = _of(run, NodeItem).order_by()
    for node_id, state, count in rows.values_list("node_id", "state").annotate(Count("pk")):
        counts[node_id][state] = count
    return counts


def _waiting_items(run: Run) -> dict[str, list[NodeItem]]:
    """Return the first items of each fan-out that are between two attempts or rounds, or wait for something."""
    rows = _of(run, NodeItem).filter(state__in=sorted(_WAITING))
    rows = rows.defer("output").order_by("node_id", "index")[:MOST_NODES]
    found: dict[str, list[NodeItem]] = defaultdict(list)
    for item in rows:
        if len(found[item.node_id]) < MOST_NAMES:
            found[item.node_id].append(item)
    return found


def _tasks(run: Run) -> list[NodeTask]:
    rows = _of(run, NodeTask).filter(run_epoch=run.epoch, outcomes__isnull=True)
    return list(rows.order_by("id")[:MOST_NODES])


def _children(run: Run, awaited: Collection[str]) -> dict[str, Run]:
    """Return the child runs that are awaited, and those that were started last."""
    rows = Run.objects.for_tenant(run.tenant_id).with_names().defer("input", "outputs").filter(parent=run)
    found = list(rows.order_by("-created_at", "-id")[:MOST_NODES])
    missing = set(list(awaited)[:MOST_NODES]) - {str(child.pk) for child in found}
    found += rows.filter(pk__in=missing) if missing else ()
    return {str(child.pk): child for child in found}


def _signals(run: Run) -> list[str]:
    rows = _of(run, RunSignal).filter(consumed=False).order_by("id")
    return list(rows.values_list("name", flat=True)[:MOST_SIGNALS])


def _queue(run: Run) -> dict[str, Any]:
    """Its place among the runs of its tenant, as ``leases`` claims them."""
    rows = Run.objects.for_tenant(run.tenant_id).order_by()
    before = Q(priority__gt=run.priority) | Q(priority=run.priority, created_at__lt=run.created_at)
    queued = rows.filter(before, state=RunState.QUEUED.value, queue=run.queue)
    return {
        "ahead": queued.values("pk")[:MOST_AHEAD].count(),
        "running": places_taken([run.tenant_id])[run.tenant_id],
        "limit": limit_of(run.tenant_id, Quota.CONCURRENT_RUNS),
    }
