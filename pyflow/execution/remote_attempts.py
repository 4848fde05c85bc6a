"""Attempts of a run's nodes in a process that does not execute the run: the other side of ``execution.remote``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.events import Event, EventType, rfc3339
from pyflow.core.messages import current_redactor
from pyflow.core.ports import EventSink, NullSink
from pyflow.core.result import ItemRun, NodeRun
from pyflow.core.states import NodeState
from pyflow.execution.attempts import Attempts, Names, Record
from pyflow.execution.items import list_items
from pyflow.execution.plan import Plan, PlannedNode
from pyflow.execution.progress import RunProgress
from pyflow.execution.remote import Outcome, Place, with_log
from pyflow.execution.request import RunRequest, RunServices
from pyflow.execution.run_log import LogLine
from pyflow.execution.shared import Shared
from pyflow.expressions.scope import ItemScope
from pyflow.isolation.errors import describe_error
from pyflow.isolation.node_loop import enter_scope


class _LinesOnly(NullSink):
    """Keeps what nodes log, until it is handed over with their outcomes; ``follower`` gets their progress."""

    def __init__(self, follower: EventSink) -> None:
        self.lines: list[LogLine] = []
        self._follower = follower

    def emit(self, event: Event) -> None:
        if event.type is EventType.NODE_PROGRESS:
            self._follower.emit(event)

    def log(self, line: LogLine) -> None:
        self.lines.append(line)


class RemoteAttempts:
    """Executes attempts of a run's node in this process, which does not execute the run."""

    def __init__(self, plan: Plan, context: ExecutionContext, request: RunRequest, services: RunServices) -> None:
        self.plan = plan
        self.context = context
        self._sink = _LinesOnly(services.sink)
        services = replace(services, sink=self._sink, shared=Shared())
        self._state = RunProgress(plan, context, services, services.children.stop)
        if self._state.scope is not None:
            self._state.scope.started(rfc3339(request.begun_at or self._state.time()))
        self._state.restore(request.recorded)
        self._attempts = Attempts(self._state, services, lineage=request.lineage, stopping=bool)

    async def execute(self, node_id: str, places: Sequence[Place]) -> list[Outcome]:
        """The outcomes of attempts of one node, made side by side, in the order of ``places``."""
        current_redactor.set(self.context.redactor)
        node = self.plan.nodes[self.plan.by_id[node_id]]
        items: list[tuple[str, Any]] = []
        try:
            if any(place.index is not None for place in places):
                items = list_items(node, lambda: self._state.names(node))
        except Exception as error:  # noqa: BLE001 - user templates raise anything
            return [self._failed(error) for _ in places]
        outcomes = await asyncio.gather(*(self._outcome(node, place, items) for place in places))
        return with_log(outcomes, self._sink.lines)

    async def _outcome(self, node: PlannedNode, place: Place, items: Sequence[tuple[str, Any]]) -> Outcome:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gathered coroutines are tasks
        enter_scope(task)
        record: Record
        names: Names
        if place.index is None:
            record = run = NodeRun(node.id, NodeState.RUNNING)
            _take_place(record, place)
            scope: Mapping[str, Any] = self._state.names(node, run=run)
        else:
            key, value = items[place.index]
            record = ItemRun(place.index, key, value)
            _take_place(record, place)
            scope = ItemScope(self._state.names(node), value, place.index, key, place.round)
        names = lambda: scope  # noqa: E731 - what `render` asks for
        try:
            config = self._attempts.render(node, names)
            output = await self._attempts.call(node, config, record, task, names, is_delegated=True)
        except Exception as error:  # noqa: BLE001 - a node raises anything
            return self._failed(error)
        return {"output": self.context.redactor.redact(output) if self.context.redactor else output}

    def _failed(self, error: Exception) -> Outcome:
        described = describe_error(error)
        if self.context.redactor:
            described = self.context.redactor.redact_message(described)
        return {"error": described}


def _take_place(record: Record, place: Place) -> None:
    record.attempts, record.started_at = place.attempt, place.started_at
    record.round, record.earlier_attempts = place.round, place.earlier_attempts
