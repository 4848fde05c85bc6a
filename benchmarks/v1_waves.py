"""v1's published algorithm, as the baseline it is: waves.

Each wave looks at all unfinished nodes for those whose dependencies are finished, gathers them, and repeats. The config
of each node is resolved with Jinja2 just before it runs. Without any reports: no states, no events.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.documents.models import NodeDef, WorkflowDef

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined)


async def run(workflow: WorkflowDef, registry: NodeRegistry) -> ExecutionContext:
    """Run a workflow in waves."""
    context = ExecutionContext(workflow_name=workflow.name, run_id="bench")
    finished: set[str] = set()
    unfinished = {node.id: node for node in workflow.nodes}
    while unfinished:
        wave = [node for node in unfinished.values() if all(other in finished for other in node.depends_on)]
        await asyncio.gather(*(_run_node(node, registry, context) for node in wave))
        for node in wave:
            finished.add(node.id)
            del unfinished[node.id]
    return context


async def _run_node(node: NodeDef, registry: NodeRegistry, context: ExecutionContext) -> None:
    try:
        config = _resolve(node.config, context.all_results() if node.config else {})
        cls: Any = registry.get(node.type)
        instance: BaseNode[Any, Any] = cls()
        context.set_result(node.id, await instance.execute(config, context))
    except Exception as error:  # noqa: BLE001 - as v1: whatever a node raises is its error
        context.set_error(node.id, error)


def _resolve(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return _ENVIRONMENT.from_string(value).render(names) if "{{" in value else value
    if isinstance(value, dict):
        return {key: _resolve(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, names) for item in value]
    return value
