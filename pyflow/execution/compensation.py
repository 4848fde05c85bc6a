"""Undoing what a failed run has done: the saga pattern (Garcia-Molina and Salem 1987)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pyflow.core.events import EventType, rfc3339
from pyflow.core.ports import Clock
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun
from pyflow.core.states import NodeState
from pyflow.execution.attempts import Attempts
from pyflow.execution.items import item_data, restore_values
from pyflow.execution.journal import Journal
from pyflow.execution.plan import PlannedNode
from pyflow.execution.progress import after_failure
from pyflow.expressions.scope import ItemScope, UndoScope


async def compensate(
    node: PlannedNode,
    run: NodeRun,
    undone: NodeRun | None,
    names: Mapping[str, Any],
    *,
    attempts: Attempts,
    journal: Journal,
    clock: Clock,
    task: asyncio.Task[Any],
    origin: PlannedNode,
) -> object:
    """Undo the node ``origin``, or each completed item of it if it is a fan-out, the last completed first.

    Returns the output of the undoing node, or the number of items that are undone. Items that an earlier attempt has
    undone are not undone again; one that fails keeps no other from being undone.
    """
    if undone is None or origin.for_each is None:
        scope = UndoScope(names, None if undone is None else undone.output)
        config = attempts.render(node, lambda: scope)
        return await attempts.call(node, config, run, task, lambda: scope)
    restore_values(origin, undone, lambda: names)
    run.items = run.items or {}
    # Those of one time stay in their order: that of completion in memory, that of the items in a record.
    done = sorted(
        (item for item in (undone.items or {}).values() if item.state is NodeState.SUCCEEDED),
        key=lambda item: item.finished_at or 0.0,
    )
    failure: Exception | None = None
    for item in reversed(done):
        own = run.items.setdefault(item.index, ItemRun(item.index, item.key))
        if own.state is not NodeState.SUCCEEDED:
            scope_of_item = ItemScope(UndoScope(names, item.output), item.value, item.index, item.key)
            try:
                output = await _undo_item(node, own, scope_of_item, attempts, clock, task)
            except Exception as error:  # noqa: BLE001 - a node raises anything
                failure = failure or error
                await _note_failure(node, run, own, error, failure, attempts, journal, clock)
            else:
                own.state, own.error, own.finished_at = NodeState.SUCCEEDED, None, clock.time()
                await journal.commit(EventType.NODE_SUCCEEDED, node.id, item_data(own) | {"output": output})
    if failure is not None:
        raise failure
    return len(done)


async def _note_failure(
    node: PlannedNode,
    run: NodeRun,
    item: ItemRun,
    error: Exception,
    first: Exception,
    attempts: Attempts,
    journal: Journal,
    clock: Clock,
) -> None:
    """Record that an item was not undone; the first failure of an attempt decides whether there is another one."""
    now = clock.time()
    wait, judged = after_failure(node, run, first, now, attempts.redactor)
    item.error = ErrorInfo.of(error if judged is first else judged, node.id, attempts.redactor)
    data = item_data(item) | {"error": item.error.as_dict()}
    if wait is None:
        item.state = NodeState.FAILED
        await journal.commit(EventType.NODE_FAILED, node.id, data | {"state": item.state, "tolerated": False})
    else:
        item.state, item.wake_at = NodeState.RETRYING, now + wait
        await journal.commit(EventType.NODE_RETRYING, node.id, data | {"wake_at": rfc3339(item.wake_at)})


async def _undo_item(
    node: PlannedNode,
    item: ItemRun,
    scope: Mapping[str, Any],
    attempts: Attempts,
    clock: Clock,
    task: asyncio.Task[Any],
) -> object:
    item.attempts += 1
    item.wake_at = None
    item.started_at = item.started_at or clock.time()
    config = attempts.render(node, lambda: scope)
    return await attempts.call(node, config, item, task, lambda: scope)
