"""Node types made for a test out of a function."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

from pyflow.core.node import AnyNodeClass, NodeRegistry
from pyflow_sdk.node import BaseNodeV2, NodeContext


class AnyConfig(BaseModel):
    """Whatever the workflow gives."""

    model_config = ConfigDict(extra="allow")


def register(registry: NodeRegistry, type_name: str, function: Callable[..., Any]) -> AnyNodeClass:
    """Register a node type that gives what a function makes of its context (and, if it takes two, its config).

    A coroutine function runs on the event loop, any other in a thread, as with real node types.
    """
    import inspect

    takes_config = len(inspect.signature(function).parameters) > 1

    if inspect.iscoroutinefunction(function):

        async def run(self: Any, config: AnyConfig, ctx: NodeContext) -> object:
            return await (function(ctx, config) if takes_config else function(ctx))
    else:

        def run(self: Any, config: AnyConfig, ctx: NodeContext) -> object:  # type: ignore[misc] # the other kind
            return function(ctx, config) if takes_config else function(ctx)

    members = {"node_type": type_name, "Config": AnyConfig, "run": run, "__doc__": "Made for a test."}
    return registry.register(type(f"Node_{type_name}", (BaseNodeV2,), members))


def register_stubborn(registry: NodeRegistry) -> tuple[threading.Event, threading.Event]:
    """Register ``stubborn``, which says when it is cancelled (the first event) and ends once it may (the second)."""
    cancelled, opened = threading.Event(), threading.Event()

    async def stubborn(ctx: NodeContext) -> None:
        while not opened.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                cancelled.set()

    register(registry, "stubborn", stubborn)
    return cancelled, opened


def workflow(*nodes: str, name: str = "test", **sections: str) -> str:
    """A workflow of version 2 out of nodes in YAML's flow style: ``workflow("{id: a, type: t}")``."""
    head = [f"{key}: {value}" for key, value in sections.items()]
    return "\n".join(["version: 2", f"name: {name}", *head, "nodes:", *(f"  - {node}" for node in nodes)]) + "\n"
