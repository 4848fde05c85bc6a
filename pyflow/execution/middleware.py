"""Middleware around the execution of a node: a chain of functions, like those around a web request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.plain import to_plain
from pyflow.core.suspension import Suspension
from pyflow.execution.plan import PlannedNode
from pyflow_sdk.node import NodeContext


class NodeCall:
    """One attempt of one node, as middleware sees it."""

    __slots__ = ("attempt", "config", "context", "lineage", "node", "node_context", "work")

    def __init__(
        self,
        node: PlannedNode,
        config: Any,
        context: ExecutionContext,
        node_context: NodeContext | None,
        attempt: int,
        work: Callable[[Any], Awaitable[object]],
        lineage: tuple[str, ...],
    ) -> None:
        self.node = node
        self.config = config
        self.context = context
        self.node_context = node_context
        self.attempt = attempt
        #: What the chain is around: executes the node with a config.
        self.work = work
        #: Names of the workflows from the one that was started to the one that the node is of.
        self.lineage = lineage


#: Executes one attempt and returns its result.
Handler = Callable[[NodeCall], Awaitable[object]]
#: Gets the call and the rest of the chain; returns the result, its own or what the rest gave.
Middleware = Callable[[NodeCall, Handler], Awaitable[object]]


def compose(middleware: Sequence[Middleware]) -> Handler | None:
    """The chain as one handler, first layer outermost; ``None`` for an empty one."""
    if not middleware:
        return None

    async def call_node(call: NodeCall) -> object:
        return await call.work(call.config)

    handler: Handler = call_node
    for layer in reversed(middleware):
        handler = _around(layer, handler)
    return handler


def _around(layer: Middleware, inner: Handler) -> Handler:
    async def handler(call: NodeCall) -> object:
        return await layer(call, inner)

    return handler


async def plain_output(call: NodeCall, next_handler: Handler) -> object:
    """Middleware: the node's result as plain data; ``NotPlainError`` if that cannot be.

    The engine does the same around all middleware in version 2 unless this is part of it: it is for layers that need
    to see what will be recorded, and for version 1 on the platform.
    """
    output = await next_handler(call)
    return output if isinstance(output, Suspension) else to_plain(output)
