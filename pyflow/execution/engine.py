"""Runs workflows in this process: the public face of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyflow.core.children import ChildRuns
from pyflow.core.context import ExecutionContext
from pyflow.core.ids import new_id
from pyflow.core.node import NodeRegistry
from pyflow.core.ports import Clock, EventSink, NullSink, SecretSource, SkippingClock, SystemClock
from pyflow.core.result import RunResult
from pyflow.documents.models import WorkflowDef
from pyflow.execution.execution import Execution
from pyflow.execution.local_children import LocalChildRuns, WorkflowSource
from pyflow.execution.middleware import Handler, Middleware, NodeCall, compose, plain_output
from pyflow.execution.plan import Plan, compile_plan
from pyflow.execution.remote_attempts import RemoteAttempts
from pyflow.execution.request import RunRequest, RunServices
from pyflow.execution.shared import Shared
from pyflow.execution.timers import standing_still
from pyflow.validation.inputs import accept_input

__all__ = ["Engine", "Execution", "Handler", "Middleware", "NodeCall", "RunRequest", "RunServices", "WorkflowEngine"]


class WorkflowEngine:
    """Runs workflows in this process.

    ``registry``: the node types (default: the built-in ones). ``middleware``: wraps every attempt of every node, first
    outermost. ``sink``: receives the events. ``clock`` and ``secrets``: where time and ``{{ secrets.X }}`` come from.
    ``workflows``: where `workflow` nodes find theirs; ``children``: how they run them (default: in this process).
    ``shared``: concurrency slots and cached results, when several engines have them in common.
    """

    def __init__(
        self,
        registry: NodeRegistry | None = None,
        *,
        sink: EventSink | None = None,
        middleware: Sequence[Middleware] = (),
        clock: Clock | None = None,
        secrets: SecretSource | None = None,
        workflows: WorkflowSource | None = None,
        children: ChildRuns | None = None,
        shared: Shared | None = None,
    ) -> None:
        if registry is None:
            from pyflow.nodes import default_registry  # noqa: PLC0415 - nodes build on the core

            registry = default_registry
        self.registry: NodeRegistry = registry
        self._local = LocalChildRuns(self._start_child, workflows)
        clock = clock if clock is not None else SystemClock()
        if isinstance(clock, SkippingClock):
            middleware = (standing_still(clock), *middleware)
        self.services = RunServices(
            sink=sink if sink is not None else NullSink(),
            clock=clock,
            secrets=secrets,
            children=children if children is not None else self._local,
            shared=shared if shared is not None else Shared(),
            handler=compose(middleware),
            makes_plain=plain_output not in middleware,
        )

    async def run(
        self,
        workflow: WorkflowDef,
        run_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
    ) -> ExecutionContext:
        """Run to the end and return the results by node id. A failed node does not raise; it is in the context.

        Raises ``DefinitionError`` (a ``ValueError``) before anything runs if the workflow cannot run.
        """
        result = await self.execute(workflow, run_id=run_id, initial_context=initial_context)
        return result.context

    async def execute(
        self,
        workflow: WorkflowDef | Plan,
        *,
        input: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Run to the end and return everything about it. ``RunRequest`` says what the arguments mean.

        Raises ``DefinitionError`` and ``InputError`` before anything runs.
        """
        return await self.start(RunRequest(workflow, run_id, input, initial_context)).wait()

    def start(self, request: RunRequest, services: RunServices | None = None) -> Execution:
        """Prepare a run; it begins when ``wait`` is awaited, and can be cancelled meanwhile.

        ``services``: what it may use, if not what the engine's other runs use: ``replace(engine.services, sink=...)``.
        Raises ``DefinitionError`` and ``InputError``.
        """
        workflow, initial = request.workflow, request.initial_context or {}
        plan = workflow if isinstance(workflow, Plan) else compile_plan(workflow, self.registry)
        context = _context(plan, request.run_id or new_id())
        for name, value in initial.items():
            context.set_result(name, value)
        if plan.version != 1 or request.input is not None:
            given = initial.get("input", {}) if request.input is None else request.input
            context.set_result("input", accept_input(plan.workflow, given))
        return Execution(plan, context, request, services or self.services)

    def attempts(self, request: RunRequest, services: RunServices | None = None) -> RemoteAttempts:
        """Return an executor of single attempts of nodes of a run that another process executes, from its record."""
        workflow, input = request.workflow, request.input or {}
        plan = workflow if isinstance(workflow, Plan) else compile_plan(workflow, self.registry)
        context = _context(plan, request.run_id or new_id())
        context.set_result("trigger", input)
        context.set_result("input", accept_input(plan.workflow, input))
        return RemoteAttempts(plan, context, request, services or self.services)

    async def join(self) -> None:
        """Wait for the child runs that were started without being waited for."""
        while self._local.detached:
            await asyncio.wait(set(self._local.detached))

    def _start_child(self, request: RunRequest, sink: EventSink | None) -> Execution:
        return self.start(request, self.services if sink is None else replace(self.services, sink=sink))


def _context(plan: Plan, run_id: str) -> ExecutionContext:
    context = ExecutionContext(workflow_name=plan.workflow.name, run_id=run_id)
    context.is_rendered = True
    return context


#: The name that v2 code uses.
Engine = WorkflowEngine
