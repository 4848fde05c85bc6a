"""Runs workflows in this process: the public face of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyflow.core.children import ChildRuns
from pyflow.core.context import ExecutionContext
from pyflow.core.events import Event
from pyflow.core.ids import new_id
from pyflow.core.node import NodeRegistry
from pyflow.core.ports import Clock, EventSink, NullSink, SecretSource, SkippingClock, SystemClock
from pyflow.core.result import RunResult
from pyflow.documents.models import WorkflowDef
from pyflow.execution.callbacks import CallbackSink, OnEvent, events_until
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
        *,
        on_event: OnEvent | None = None,
    ) -> ExecutionContext:
        """Run to the end and return the results by node id. A failed node does not raise; it is in the context.

        ``on_event``: see ``execute``. Raises ``DefinitionError`` (a ``ValueError``) before anything runs if the
        workflow cannot run.
        """
        result = await self.execute(workflow, run_id=run_id, initial_context=initial_context, on_event=on_event)
        return result.context

    async def execute(
        self,
        workflow: WorkflowDef | Plan,
        *,
        input: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> RunResult:
        """Run to the end and return everything about it. ``RunRequest`` says what the arguments mean.

        ``on_event`` is called with each event of this run (not of its child runs), progress of nodes included, on the
        event loop and in order; it must not block, and what it raises is logged. Raises ``DefinitionError`` and
        ``InputError`` before anything runs.
        """
        return await self._observed(RunRequest(workflow, run_id, input, initial_context), on_event).wait()

    async def stream(
        self, workflow: WorkflowDef | Plan, *, input: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> AsyncIterator[Event]:
        """Run, and yield each event of the run (not of its child runs) as it happens, progress of nodes included.

        The last one is the run's end, and has its outputs or its error. Leaving the loop early cancels the run. Raises
        as ``execute`` does::

            async with aclosing(engine.stream(workflow, input={"who": "Ada"})) as events:
                async for event in events:
                    print(event.type, event.node_id)
        """
        queue: asyncio.Queue[Event] = asyncio.Queue()
        execution = self._observed(RunRequest(workflow, run_id, input), queue.put_nowait)
        run = asyncio.ensure_future(execution.wait())
        try:
            async for event in events_until(run, queue):
                yield event
        finally:
            if not run.done():
                execution.cancel()
                await asyncio.gather(run, return_exceptions=True)

    def _observed(self, request: RunRequest, on_event: OnEvent | None) -> Execution:
        if on_event is None:
            return self.start(request)
        return self.start(request, replace(self.services, sink=CallbackSink(self.services.sink, on_event)))

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
