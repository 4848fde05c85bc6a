"""The recorded nodes of runs, as the engine goes on from them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from pyflow.core import result
from pyflow.core.states import NodeState
from pyflow.core.suspension import Suspension
from runs.models import NodeItem, NodeRun
from runs.storage.values import Reference


def recorded_nodes(run_ids: Collection[UUID]) -> dict[UUID, dict[str, result.NodeRun]]:
    """The node runs that runs have on record, for the engine to go on from.

    Where an output is large, it is a ``Reference`` that ``RunValues.fill`` replaces.
    """
    found: dict[UUID, dict[str, result.NodeRun]] = {run_id: {} for run_id in run_ids}
    for row in NodeRun.objects.across_tenants().filter(run__in=run_ids):
        found[row.run_id][row.node_id] = _restore(row)
    items = NodeItem.objects.across_tenants().filter(run__in=run_ids).order_by("run", "node_id", "index")
    for item in items:
        runs = found[item.run_id]
        run = runs.setdefault(item.node_id, result.NodeRun(item.node_id, NodeState.RUNNING, attempts=1))
        if run.items is None:
            run.items = {}
        run.items[item.index] = _restore_item(item)
    return found


def _restore_item(row: NodeItem) -> result.ItemRun:
    item = result.ItemRun(row.index, row.key)
    item.state = NodeState(row.state)
    item.attempts, item.round, item.earlier_attempts = row.attempts, row.round, row.earlier_attempts
    item.output = Reference.of(row.output_ref) or row.output
    item.finished_at = row.at.timestamp()
    item.started_at = None if row.started_at is None else row.started_at.timestamp()
    item.wake_at = None if row.wake_at is None else row.wake_at.timestamp()
    item.wait = None if row.wait is None else Suspension.from_dict(row.wait)
    if row.error is not None:
        item.error = result.ErrorInfo.from_record(row.error, row.node_id)
    return item


def _restore(row: NodeRun) -> result.NodeRun:
    error = row.error
    run = result.NodeRun(
        row.node_id,
        NodeState(row.state),
        output=Reference.of(row.output_ref) or row.output,
        error=None if error is None else result.ErrorInfo.from_record(error, row.node_id),
        attempts=row.attempts,
        reason=row.reason or None,
        tolerated=row.tolerated,
        wake_at=None if row.wake_at is None else row.wake_at.timestamp(),
    )
    run.round, run.earlier_attempts = row.round, row.earlier_attempts
    run.wait = None if row.wait is None else Suspension.from_dict(row.wait)
    run.started_at = None if row.started_at is None else row.started_at.timestamp()
    run.finished_at = None if row.finished_at is None else row.finished_at.timestamp()
    return run
