"""Run a workflow in a test: in memory, with mocks, secrets and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyflow.core.node import NodeRegistry
from pyflow.core.ports import Clock, EventSink, MappingSecrets
from pyflow.core.result import RunResult
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.nodes import default_registry
from pyflow.testing.clock import ManualClock
from pyflow.testing.mocks import check_mocks, mocked, registry_for
from pyflow.validation.loader import load_workflow, parse_workflow


async def run_workflow(
    workflow: WorkflowDef | Path | str,
    *,
    input: Mapping[str, Any] | None = None,
    mocks: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    sink: EventSink | None = None,
    registry: NodeRegistry | None = None,
    initial_context: Mapping[str, Any] | None = None,
) -> RunResult:
    """Run ``workflow`` (a model, the path of a file, or YAML text) to its end and return everything about the run.

    ``mocks``: outputs or ``MockNode`` by node id; a node type that only mocked nodes have needs not exist.
    ``secrets``: what ``{{ secrets.NAME }}`` gives. ``clock``: default a ``ManualClock`` that passes waits at once.
    ``sink``: receives every event, for example a ``MemorySink``. ``registry``: default the built-in node types and
    those of installed plugins.

    Raises ``DefinitionError``, ``InputError``, and ``ValueError`` for a mock of a node that is not there.
    """
    definition = _definition(workflow)
    mocks = mocks or {}
    check_mocks(definition, mocks)
    clock = ManualClock(auto_advance=True) if clock is None else clock
    engine = WorkflowEngine(
        registry_for(definition, default_registry if registry is None else registry, mocks),
        sink=sink,
        middleware=[mocked(mocks)],
        clock=clock,
        secrets=MappingSecrets(secrets or {}),
    )
    return await engine.execute(definition, input=input, initial_context=initial_context)


def _definition(workflow: WorkflowDef | Path | str) -> WorkflowDef:
    if isinstance(workflow, Path):
        return load_workflow(workflow)
    return parse_workflow(workflow) if isinstance(workflow, str) else workflow
