"""Run one node on its own, as the engine would, in a plugin's own tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from pyflow_sdk.node import BaseNodeV2, NodeContext


async def run_node(
    node: type[BaseNodeV2[Any]],
    config: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    progress: list[tuple[float, str]] | None = None,
) -> object:
    """Validate ``config``, run the node once and return its validated output.

    Raises what the node raises, and pydantic's ``ValidationError`` for a config or an output of the wrong shape.
    Calls of ``ctx.progress`` are appended to ``progress``.
    """
    ctx = NodeContext(
        run_id="test-run",
        node_id="test",
        workflow="test",
        secrets=secrets,
        progress=None if progress is None else lambda fraction, message: progress.append((fraction, message)),
    )
    instance = node()
    parsed = node.Config.model_validate(dict(config))
    if inspect.iscoroutinefunction(instance.run):
        output = await instance.run(parsed, ctx)
    else:
        output = await asyncio.to_thread(instance.run, parsed, ctx)
    return output if node.Output is None else node.Output.model_validate(output)
