"""Sends the events of a run to its sink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.events import Event, EventType
from pyflow.core.ports import EventSink


class Journal:
    """Numbers the events of a run, masks secrets in them and hands them on.

    With ``durable=False`` completions of nodes are sent like starts: nothing waits for them (``durability: run``).
    """

    __slots__ = ("_context", "_durable", "_seq", "_sink", "_time")

    def __init__(
        self, sink: EventSink, context: ExecutionContext, time: Callable[[], float], *, durable: bool = True
    ) -> None:
        self._sink = sink
        self._context = context
        self._time = time
        self._durable = durable
        self._seq = 0

    def emit(self, type: EventType, node_id: str | None, data: dict[str, Any]) -> float:
        """Send an event of a start or of progress; return its moment."""
        event = self._event(type, node_id, data)
        self._sink.emit(event)
        return event.at

    async def commit(self, type: EventType, node_id: str | None, data: dict[str, Any]) -> float:
        """Send the event of a completion, and return its moment once it is durable."""
        event = self._event(type, node_id, data)
        if self._durable or node_id is None:
            await self._sink.commit(event)
        else:
            self._sink.emit(event)
        return event.at

    def _event(self, type: EventType, node_id: str | None, data: dict[str, Any]) -> Event:
        self._seq += 1
        context = self._context
        if context.redactor:
            data = context.redactor.redact(data)
        return Event(type, context.run_id, context.workflow_name, self._seq, self._time(), node_id, data)
