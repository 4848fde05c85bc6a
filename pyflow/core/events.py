"""Events of runs: one shape for REST, streams, webhooks, stores and callbacks."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pyflow.core.states import NodeState, RunState


class EventType(StrEnum):
    """The event types; ``node.progress`` is delivered to watchers and not stored for ever."""

    WORKFLOW_CREATED = "workflow.created"
    WORKFLOW_UPDATED = "workflow.updated"
    WORKFLOW_PUBLISHED = "workflow.published"
    WORKFLOW_ARCHIVED = "workflow.archived"
    WORKFLOW_DELETED = "workflow.deleted"
    RUN_QUEUED = "run.queued"
    RUN_STARTED = "run.started"
    RUN_PAUSED = "run.paused"
    RUN_RESUMED = "run.resumed"
    RUN_SUCCEEDED = "run.succeeded"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    NODE_STARTED = "node.started"
    NODE_SUCCEEDED = "node.succeeded"
    NODE_FAILED = "node.failed"
    NODE_RETRYING = "node.retrying"
    NODE_SKIPPED = "node.skipped"
    NODE_WAITING = "node.waiting"
    NODE_SIGNAL_REFUSED = "node.signal_refused"
    NODE_PROGRESS = "node.progress"
    TRIGGER_FIRED = "trigger.fired"
    TRIGGER_PAUSED = "trigger.paused"
    TRIGGER_RESUMED = "trigger.resumed"
    WEBHOOK_DISABLED = "webhook.disabled"


class Event:
    """One fact about a run.

    ``at`` is a POSIX time in seconds (UTC). ``data`` depends on the type: a ``node.succeeded`` has ``{output,
    attempt}``, a ``node.failed`` ``{error: {code, message, type}, attempt, state}``, a ``node.skipped`` ``{reason}``,
    a ``node.retrying`` ``{attempt, wake_at, error}``, a ``node.signal_refused`` ``{name, reason, signal?}`` with the id
    of the signal that is dropped; moments are RFC 3339. Those of an item of a fan-out also have
    ``{item: {index, key}, started_at}``. Run events have ``{state, …}``. ``seq`` counts from 1 within a
    run as its recorder counts; a durable store gives its own.
    """

    __slots__ = ("at", "data", "node_id", "run_id", "seq", "type", "workflow")

    def __init__(
        self,
        type: EventType,
        run_id: str,
        workflow: str,
        seq: int,
        at: float,
        node_id: str | None,
        data: dict[str, Any],
    ) -> None:
        self.type = type
        self.run_id = run_id
        self.workflow = workflow
        self.seq = seq
        self.at = at
        self.node_id = node_id
        self.data = data

    def __repr__(self) -> str:
        node = f" {self.node_id}" if self.node_id else ""
        return f"<Event {self.seq} {self.type}{node}>"

    def as_dict(self) -> dict[str, Any]:
        """``{seq, type, at, workflow, run_id, node_id?, data}`` with ``at`` as RFC 3339 in UTC."""
        shape: dict[str, Any] = {
            "seq": self.seq,
            "type": str(self.type),
            "at": rfc3339(self.at),
            "workflow": self.workflow,
            "run_id": self.run_id,
        }
        if self.node_id is not None:
            shape["node_id"] = self.node_id
        shape["data"] = self.data
        return shape


def rfc3339(at: float) -> str:
    """A POSIX time as RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def posix(moment: str) -> float:
    """The inverse of ``rfc3339``."""
    return datetime.fromisoformat(moment).timestamp()


#: The event of the end of a run or a node.
RUN_ENDS = {
    RunState.SUCCEEDED: EventType.RUN_SUCCEEDED,
    RunState.FAILED: EventType.RUN_FAILED,
    RunState.TIMED_OUT: EventType.RUN_FAILED,
    RunState.CANCELLED: EventType.RUN_CANCELLED,
}
NODE_ENDS = {
    NodeState.SUCCEEDED: EventType.NODE_SUCCEEDED,
    NodeState.FAILED: EventType.NODE_FAILED,
    NodeState.TIMED_OUT: EventType.NODE_FAILED,
    NodeState.CANCELLED: EventType.NODE_FAILED,
    NodeState.SKIPPED: EventType.NODE_SKIPPED,
}
