"""Rules about the keys that every node may have: the kinds of nodes that each key works on, and reasons (version 2).

The checker refuses by this table, and the reference shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from pyflow.core.node import AnyNodeClass, BaseNodeV2
from pyflow.core.suspension import SuspendingNode
from pyflow.documents.models import NodeDef


class NodeKind(StrEnum):
    """Kinds of nodes, by what they do when they start."""

    CODE = "code"
    V1_CLASS = "version 1 class"
    WORKFLOW = "workflow"
    WAITING = "waiting"


def kind_of(cls: AnyNodeClass) -> NodeKind:
    """The kind of a node type."""
    if issubclass(cls, SuspendingNode):
        return NodeKind.WAITING
    if getattr(cls, "starts_run", False):
        return NodeKind.WORKFLOW
    if issubclass(cls, BaseNodeV2) or getattr(cls, "wants_node_context", False):
        return NodeKind.CODE
    return NodeKind.V1_CLASS


#: The keys in the order of the model; not those that say which node it is.
KEYS: Final = tuple(name for name in NodeDef.model_fields if name not in {"id", "type", "config", "description"})

_NOT_EXECUTED = "no worker executes a node that waits"
_CHILD_EXECUTED = "the nodes of the child run are executed, not this one: say it there"

#: Why a key has no effect on nodes of a kind.
_REFUSED: Final[dict[NodeKind, dict[str, str]]] = {
    NodeKind.CODE: {},
    NodeKind.V1_CLASS: {"heartbeat_timeout": "a version 1 class cannot report progress: give it a `timeout`"},
    NodeKind.WORKFLOW: {
        "heartbeat_timeout": "a child run reports no progress to its parent: give it a `timeout`",
        "isolation": _CHILD_EXECUTED,
        "queue": "a child run belongs to the queue that its own workflow names: `settings.queue` there",
        "on_lost": "a child run outlives the worker of its parent, which finds it again",
    },
    NodeKind.WAITING: {
        "retry": "a node that waits has one attempt: give it a longer `timeout`",
        "heartbeat_timeout": "a node that waits reports no progress: give it a `timeout`",
        "until": "a node that waits is over when what it waits for comes: repeat a node that asks for it",
        "cache": "what a node waits for is meant for its run alone",
        "concurrency": "a node that waits holds no slot: limit the nodes around it",
        "isolation": _NOT_EXECUTED,
        "queue": _NOT_EXECUTED,
        "on_lost": _NOT_EXECUTED,
    },
}
#: Keys that say more about another one.
_NEEDS: Final = {
    "item_key": "for_each",
    "item_when": "for_each",
    "collect": "for_each",
    "max_parallel": "for_each",
    "tolerate_failures": "for_each",
    "memory_limit": "isolation",
    "cpu_limit": "isolation",
}
#: Why a key has no effect outside the graph (`nodes`).
_GRAPH_ONLY: Final = {
    "compensate": "only `nodes` are undone",
    "queue": "what finishes a run is executed where the run is",
}


def why_refused(key: str, kind: NodeKind) -> str | None:
    """Return the reason that the key has no effect on any node of the kind; ``None`` if it has one."""
    return _REFUSED[kind].get(key) or _REFUSED[kind].get(_NEEDS.get(key, ""))


def refusals(node: NodeDef, cls: AnyNodeClass | None, section: str) -> Iterator[tuple[str, str]]:
    """The keys that the node gives in vain, with the reasons. ``cls``: the class of its type, if that is known."""
    kind = None if cls is None else kind_of(cls)
    for key in KEYS:
        if getattr(node, key) is None:
            continue
        needed = _NEEDS.get(key)
        if section != "nodes" and key in _GRAPH_ONLY:
            yield key, f"`{key}` has no effect in `{section}`: {_GRAPH_ONLY[key]}"
        elif needed == "for_each" and node.for_each is None:
            yield key, f"`{key}` has no effect without `for_each`"
        elif needed == "isolation" and node.isolation != "process":
            yield key, f"`{key}` has no effect without `isolation: process`"
        elif kind is not None and key in _REFUSED[kind]:
            yield key, f"`{key}` has no effect on a `{node.type}` node: {_REFUSED[kind][key]}"
        elif kind is NodeKind.WAITING and key in {"timeout", "total_timeout"} and "timeout" in node.config:
            message = f"`{key}` and `config.timeout` say how long {node.id!r} waits: give one of them"
            yield key, f"{message} (`on_timeout` belongs to `config.timeout`)"
