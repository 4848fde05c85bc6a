"""The other side of ``pyflow.core.remote``: attempts of a run's nodes in a process that does not execute the run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pyflow.core.attempts import Attempts, Names, Record
from pyflow.core.children import ChildRuns
from pyflow.core.context import ExecutionContext
from pyflow.core.events import rfc3339
from pyflow.core.fanout import list_items
from pyflow.core.isolation_errors import describe_error
from pyflow.core.messages import current_redactor
from pyflow.core.middleware import Handler
from pyflow.core.node_loop import enter_scope
from pyflow.core.plan import Plan, PlannedNode
from pyflow.core.ports import Clock, NullSink, SecretSource
from pyflow.core.progress import RunProgress
from pyflow.core.remote import Outcome, Place, with_log
from pyflow.core.result import ItemRun, NodeRun
from pyflow.core.run_log import LogLine
from pyflow.core.scope import ItemScope
from pyflow.core.shared import Shared
from pyflow.core.states import NodeState
from pyflow.core.timers import Timers


class _LinesOnly(NullSink):
    """Keeps what nodes log, until it is handed over with their outcomes."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    def log(self, line: LogLine) -> None:
        self.lines.append(line)


class RemoteAttempts(RunProgress):
    """Executes attempts of a run's node in this process, which does not execute the run."""

    def __init__(
        self,
        plan: Plan,
        context: ExecutionContext,
        *,
        handler: Handler | None,
        converts: bool,
        clock: Clock,
        secrets: SecretSource | None,
        children: ChildRuns,
        lineage: tuple[str, ...],
        recorded: Mapping[str, NodeRun],
        begun_at: float | None,
    ) -> None:
        self._sink = _LinesOnly()
        super().__init__(plan, context, sink=self._sink, clock=clock, secrets=secrets)
        if self._scope is not None:
            self._scope.started(rfc3339(begun_at or self._time()))
        self._restore(recorded)
        self._attempts = Attempts(
            context,
            self._journal,
            handler=handler,
            converts=converts,
            shared=Shared(),
            secrets=None if self._scope is None else self._scope.secrets,
            time=self._time,
            timers=Timers(clock),
            stopping=bool,
            children=children,
            sink=self._sink,
            lineage=(*lineage, plan.workflow.name),
        )

    async def execute(self, node_id: str, places: Sequence[Place]) -> list[Outcome]:
        """The outcomes of attempts of one node, made side by side, in the order of ``places``."""
        current_redactor.set(self.context.redactor)
        node = self.plan.nodes[self.plan.by_id[node_id]]
        items: list[tuple[str, Any]] = []
        try:
            if any(place.index is not None for place in places):
                items = list_items(node, lambda: self._names(node))
        except Exception as error:  # noqa: BLE001 - user templates raise anything
            return [self._told(error) for _ in places]
        outcomes = await asyncio.gather(*(self._outcome(node, place, items) for place in places))
        return with_log(outcomes, self._sink.lines)

    async def _outcome(self, node: PlannedNode, place: Place, items: Sequence[tuple[str, Any]]) -> Outcome:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gathered coroutines are tasks
        enter_scope(task)
        record: Record
        names: Names
        if place.index is None:
            record = NodeRun(node.id, NodeState.RUNNING)
            scope: Mapping[str, Any] = self._names(node)
        else:
            key, value = items[place.index]
            record = ItemRun(place.index, key, value)
            scope = ItemScope(self._names(node), value, place.index, key)
        record.attempts, record.started_at = place.attempt, place.started_at
        names = lambda: scope  # noqa: E731 - what `render` asks for
        try:
            output = await self._attempts.execute_here(node, self._attempts.render(node, names), record, task, names)
        except Exception as error:  # noqa: BLE001 - a node raises anything
            return self._told(error)
        return {"output": self.context.redactor.redact(output) if self.context.redactor else output}

    def _told(self, error: Exception) -> Outcome:
        told = describe_error(error)
        if self.context.redactor:
            told = self.context.redactor.redact_message(told)
        return {"error": told}
