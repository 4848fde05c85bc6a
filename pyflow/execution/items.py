"""The items of a fan-out: found by evaluating ``for_each``, and recorded one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from pyflow.core.events import EventType, rfc3339
from pyflow.core.messages import show
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun
from pyflow.core.states import NodeState
from pyflow.core.suspension import Signal, Suspension, is_of_items
from pyflow.execution.journal import Journal
from pyflow.execution.matrix import BadItemsError, check_count, combinations
from pyflow.execution.plan import PlannedNode
from pyflow.execution.rounds import round_data
from pyflow.expressions.scope import ItemScope

Names = Callable[[], Mapping[str, Any]]


def list_items(node: PlannedNode, names: Names) -> list[tuple[str, Any]]:
    """The items of a fan-out with their keys, in the order of a list, or of the keys of a mapping.

    Raises ``BadItemsError``, or what a template raises.
    """
    assert node.for_each is not None  # noqa: S101 - only fan-out nodes get here
    value = node.for_each.render(names())
    if node.has_matrix:
        items = combinations(value)
    elif isinstance(value, Mapping):
        # By their keys: a database gives a mapping back in another order, and an item is recorded by its index.
        items = sorted(((str(key), item) for key, item in value.items()), key=itemgetter(0))
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        raise BadItemsError(f"`for_each` needs a list or a mapping, not {type(value).__name__}")
    check_count(len(items))
    if node.item_key is None:
        if not isinstance(value, list | tuple):
            _check_unique(key for key, _ in items)
        return items
    keyed: dict[str, Any] = {}
    for index, (key, item) in enumerate(items):
        own = str(node.item_key.render(ItemScope(names(), item, index, key, "item_key")))
        if own in keyed:
            raise BadItemsError(f"`item_key` gives {show(own)} for more than one item")
        keyed[own] = item
    return list(keyed.items())


def _check_unique(keys: Iterable[str]) -> None:
    for key, count in Counter(keys).items():
        if count > 1:
            raise BadItemsError(f"{count} items have the key {show(key)}: give them different ones with `item_key`")


def restore_values(node: PlannedNode, run: NodeRun, names: Names) -> None:
    """Find the items that a record names by their keys only. Raises as ``list_items`` does."""
    left = [item for item in (run.items or {}).values() if item.value is None]
    values = dict(list_items(node, names)) if left else {}
    for item in left:
        item.value = values.get(item.key)


def item_data(item: ItemRun) -> dict[str, Any]:
    """Return the data of every event of an item: ``{attempt, started_at, item: {index, key}}``, and its round."""
    return {
        "attempt": item.attempts,
        "started_at": None if item.started_at is None else rfc3339(item.started_at),
        "item": {"index": item.index, "key": item.key},
        **round_data(item),
    }


def end_waiting_items(run: NodeRun, journal: Journal) -> None:
    """End the items that are between two attempts or rounds, or wait for something, with their node."""
    for item in (run.items or {}).values():
        if item.state in (NodeState.RETRYING, NodeState.WAITING):
            cancel_item(run.id, item, "cancelled while it waited", journal)


def cancel_item(node_id: str, item: ItemRun, why: str, journal: Journal) -> None:
    """End an item; it keeps the error of its last attempt. Not awaited: the node's own end makes it durable."""
    item.state, item.wait, item.wake_at = NodeState.CANCELLED, None, None
    item.error = item.error or ErrorInfo("node_cancelled", why, "CancelledError", node_id)
    data = {"error": item.error.as_dict(), "state": item.state, "tolerated": False}
    journal.emit(EventType.NODE_FAILED, node_id, item_data(item) | data)


def waits_of(run: NodeRun) -> list[Suspension]:
    """Return what a waiting node waits for; of a fan-out of nodes that wait, what each of its items does."""
    if is_of_items(run.wait):
        items = (run.items or {}).values()
        return [item.wait for item in items if item.state is NodeState.WAITING and item.wait is not None]
    return [] if run.wait is None else [run.wait]


def taken(signal: Signal | None) -> dict[str, str]:
    """Return the event data about the signal that a node, or an item, has taken."""
    return {} if signal is None or signal.id is None else {"signal": signal.id}
