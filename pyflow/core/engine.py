"""Runs workflows in this process: the public face of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyflow.core.children import ChildRuns, LocalChildRuns, WorkflowSource
from pyflow.core.context import ExecutionContext
from pyflow.core.execution import Execution
from pyflow.core.ids import new_id
from pyflow.core.inputs import accept_input
from pyflow.core.middleware import Handler, Middleware, NodeCall, compose
from pyflow.core.models import WorkflowDef
from pyflow.core.node import NodeRegistry
from pyflow.core.plain import plain_output
from pyflow.core.plan import Plan, compile_plan
from pyflow.core.ports import Clock, EventSink, NullSink, SecretSource, SkippingClock, SystemClock
from pyflow.core.remote import RemoteNodes
from pyflow.core.remote_attempts import RemoteAttempts
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.shared import Shared, SlotSource
from pyflow.core.suspension import Signal
from pyflow.core.timers import standing_still

__all__ = ["Engine", "Execution", "Handler", "Middleware", "NodeCall", "WorkflowEngine"]


class WorkflowEngine:
    """Runs workflows in this process.

    ``registry``: the node types (default: the built-in ones). ``middleware``: wraps every attempt of every node, first
    outermost. ``sink``: is told what happens. ``clock`` and ``secrets``: where time and ``{{ secrets.X }}`` come from.
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
        self.sink: EventSink = sink if sink is not None else NullSink()
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.secrets = secrets
        if isinstance(self.clock, SkippingClock):
            middleware = (standing_still(self.clock), *middleware)
        self.handler = compose(middleware)
        #: Whether outputs are made plain around all middleware, or by a layer of it.
        self._converts = plain_output not in middleware
        self.shared = shared if shared is not None else Shared()
        self._local = LocalChildRuns(self, workflows)
        self.children: ChildRuns = children if children is not None else self._local

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
        run_id: str | None = None,
        input: Mapping[str, Any] | None = None,
        initial_context: Mapping[str, Any] | None = None,
        recorded: Mapping[str, NodeRun] | None = None,
        only: frozenset[str] | None = None,
        sink: EventSink | None = None,
        signals: Iterable[Signal] = (),
    ) -> RunResult:
        """Run to the end and return everything about it. See ``start`` for the arguments."""
        return await self.start(
            workflow,
            run_id=run_id,
            input=input,
            initial_context=initial_context,
            recorded=recorded,
            only=only,
            sink=sink,
            signals=signals,
        ).wait()

    def start(
        self,
        workflow: WorkflowDef | Plan,
        *,
        run_id: str | None = None,
        input: Mapping[str, Any] | None = None,
        initial_context: Mapping[str, Any] | None = None,
        recorded: Mapping[str, NodeRun] | None = None,
        only: frozenset[str] | None = None,
        sink: EventSink | None = None,
        signals: Iterable[Signal] = (),
        lineage: tuple[str, ...] = (),
        children: ChildRuns | None = None,
        secrets: SecretSource | None = None,
        park: bool = False,
        begun_at: float | None = None,
        remote: RemoteNodes | None = None,
        slots: SlotSource | None = None,
    ) -> Execution:
        """Prepare a run; it begins when ``wait`` is awaited, and can be cancelled meanwhile.

        ``input`` is checked against the workflow's ``inputs`` (``InputError``). ``initial_context`` is stored like
        results. ``recorded``: finished node runs to go on from, by node id. ``only``: the other nodes are skipped.
        ``signals``: those that arrived already. ``lineage``: names of the workflows above, of a child run.
        ``children``: how this run runs its child runs, and ``secrets``: where its secrets come from, if not as with the
        engine's others. ``remote``: executes the nodes that have a `queue`, or all with `distribute` (default: like all
        others). ``slots``: where its concurrency slots come from (default: the engine's own).
        ``begun_at``: when the run first began (POSIX seconds), for its timeout. ``park``: end in state ``waiting``
        instead of waiting when nothing else is left to do.
        """
        plan = workflow if isinstance(workflow, Plan) else compile_plan(workflow, self.registry)
        context = ExecutionContext(workflow_name=plan.workflow.name, run_id=run_id or new_id())
        context.is_rendered = True
        for name, value in (initial_context or {}).items():
            context.set_result(name, value)
        if plan.version != 1 or input is not None:
            initial = dict(initial_context or {})
            accepted = accept_input(plan.workflow, initial.get("input", {}) if input is None else input)
            context.set_result("input", accepted)
        return Execution(
            plan,
            context,
            handler=self.handler,
            converts=self._converts,
            sink=sink or self.sink,
            clock=self.clock,
            secrets=secrets if secrets is not None else self.secrets,
            shared=self.shared,
            children=children or self.children,
            lineage=lineage,
            recorded=recorded,
            only=only,
            signals=signals,
            park=park,
            begun_at=begun_at,
            remote=remote,
            slots=slots,
        )

    def attempts(
        self,
        plan: Plan,
        *,
        run_id: str,
        input: Mapping[str, Any],
        recorded: Mapping[str, NodeRun],
        lineage: tuple[str, ...] = (),
        begun_at: float | None = None,
        secrets: SecretSource | None = None,
    ) -> RemoteAttempts:
        """What executes single attempts of the nodes of a run that another process executes, from its record.

        ``secrets``: where the run's secrets come from, if not as with the engine's others.
        """
        context = ExecutionContext(workflow_name=plan.workflow.name, run_id=run_id)
        context.is_rendered = True
        context.set_result("trigger", input)
        context.set_result("input", accept_input(plan.workflow, input))
        return RemoteAttempts(
            plan,
            context,
            handler=self.handler,
            converts=self._converts,
            clock=self.clock,
            secrets=secrets if secrets is not None else self.secrets,
            children=self.children,
            lineage=lineage,
            recorded=recorded,
            begun_at=begun_at,
        )

    async def join(self) -> None:
        """Wait for the child runs that were started without being waited for."""
        while self._local.detached:
            await asyncio.wait(set(self._local.detached))


#: The name that v2 code uses.
Engine = WorkflowEngine
