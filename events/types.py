"""The types of events, with a JSON Schema (draft 2020-12) of the data of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyflow.core.events import EventType
from pyflow.core.states import NodeState, RunState

#: Raised when the data of a type loses a field, or one changes its meaning; fields may be added within a version.
VERSION = 1

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventKind:
    """A type of events: what it says, the schema of its ``data``, and whether it is kept in the log."""

    type: EventType
    description: str
    data: Schema
    stored: bool = True

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of an event of this type."""
        text, nullable_text = {"type": "string"}, {"type": ["string", "null"]}
        properties: dict[str, Any] = {
            "id": {"type": "string", "format": "uuid"},
            "seq": {"type": "integer", "minimum": 0, "description": "1, 2, 3… within a run; 0 outside of runs."},
            "type": {"const": self.type.value},
            "at": {"type": "string", "format": "date-time"},
            "tenant": {"type": "string", "format": "uuid"},
            "workflow": nullable_text,
            "version": {"type": ["integer", "null"]},
            "run_id": {"type": ["string", "null"], "format": "uuid"},
            "node_id": nullable_text,
            "data": self.data,
        }
        if not self.stored:
            properties["id"] = {"type": "null", "description": "It is not in the log."}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.type.value,
            "description": self.description,
            "type": "object",
            "required": list(properties),
            "properties": properties | {"type": text | properties["type"]},
        }


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT, _NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}
_ERROR = _object(
    {"code": _TEXT, "message": _TEXT, "type": _TEXT},
    {"node_id": {"type": ["string", "null"]}, "kind": _TEXT, "status": _NUMBER, "body": {}},
)
_ITEM = _object({"index": _NUMBER, "key": {"type": ["string", "null"]}})
_REFERENCE = _object({"sha256": _TEXT, "size": _NUMBER})
_TEXT_OR_NULL = {"type": ["string", "null"]}
_ATTEMPT = {"attempt": _NUMBER}
_ROUND = {"round": _NUMBER, "round_attempt": _NUMBER}
_OF_ITEM = {"item": _ITEM, "started_at": {"type": ["string", "null"], "format": "date-time"}} | _ROUND
_RUN_STATE = {"state": {"type": "string", "enum": [state.value for state in RunState]}}
_NODE_STATE = {"state": {"type": "string", "enum": [state.value for state in NodeState]}}
_BY = {"by": _object({"kind": _TEXT, "id": _TEXT, "name": _TEXT})}
_VERSION = {"state": _TEXT, "checksum": _TEXT}
_MOMENT = {"type": "string", "format": "date-time"}
_ENDED = {"error": {"anyOf": [_ERROR, {"type": "null"}]}, "compensation": {"type": ["string", "null"]}}
_OUTPUTS = {"outputs": {}, "outputs_ref": _REFERENCE}
_TRIGGER = {"trigger": _TEXT, "kind": {"type": "string", "enum": ["schedule", "webhook", "event"]}}
_SCHEDULE = {"schedule_id": _TEXT}

KINDS: tuple[EventKind, ...] = (
    EventKind(EventType.WORKFLOW_CREATED, "A workflow was stored for the first time.", _object(_BY | _VERSION)),
    EventKind(
        EventType.WORKFLOW_UPDATED,
        "A draft was stored, changed or deleted, a version was archived, or a workflow was unarchived.",
        _object(_BY, _VERSION | {"archived": {"type": "boolean"}, "deleted": {"type": "boolean"}}),
    ),
    EventKind(
        EventType.WORKFLOW_PUBLISHED,
        "A version was published: runs and triggers use it from now on.",
        _object(_BY | _VERSION, {"copied_from": _NUMBER}),
    ),
    EventKind(
        EventType.WORKFLOW_ARCHIVED,
        "A workflow was archived: no run of it starts.",
        _object(_BY, {"archived": {"type": "boolean"}}),
    ),
    EventKind(EventType.WORKFLOW_DELETED, "A workflow was deleted with its versions and runs.", _object(_BY)),
    EventKind(EventType.RUN_QUEUED, "A run was accepted, or is queued again.", _object(_RUN_STATE, {"retry": _NUMBER})),
    EventKind(EventType.RUN_STARTED, "The execution of a run began.", _object(_RUN_STATE)),
    EventKind(EventType.RUN_PAUSED, "A run was paused.", _object(_RUN_STATE)),
    EventKind(EventType.RUN_RESUMED, "The execution of a run continues.", _object(_RUN_STATE)),
    EventKind(EventType.RUN_SUCCEEDED, "A run succeeded.", _object(_RUN_STATE, _OUTPUTS | _ENDED)),
    EventKind(EventType.RUN_FAILED, "A run failed or timed out.", _object(_RUN_STATE, _OUTPUTS | _ENDED)),
    EventKind(EventType.RUN_CANCELLED, "A run was cancelled or terminated.", _object(_RUN_STATE, _OUTPUTS | _ENDED)),
    EventKind(EventType.NODE_STARTED, "An attempt of a node began.", _object(_ATTEMPT, _OF_ITEM)),
    EventKind(
        EventType.NODE_SUCCEEDED,
        "A node, or an item of its fan-out, succeeded.",
        _object({}, _ATTEMPT | _OF_ITEM | _NODE_STATE | {"output": {}, "output_ref": _REFERENCE, "reused": _TEXT}),
    ),
    EventKind(
        EventType.NODE_FAILED,
        "A node, or an item of its fan-out, failed, timed out or was cancelled.",
        _object(_NODE_STATE | {"error": _ERROR}, _ATTEMPT | _OF_ITEM | {"tolerated": {"type": "boolean"}}),
    ),
    EventKind(
        EventType.NODE_RETRYING,
        "An attempt failed; another one follows at `wake_at`.",
        _object(_ATTEMPT | {"wake_at": _MOMENT, "error": _ERROR}, _OF_ITEM),
    ),
    EventKind(EventType.NODE_SKIPPED, "A node was skipped.", _object({}, {"reason": _TEXT} | _NODE_STATE)),
    EventKind(
        EventType.NODE_WAITING,
        "A node, or an item of its fan-out, waits for a time, a signal, a child run, or its next round.",
        _object(_ATTEMPT, {"until": _TEXT_OR_NULL, "signal": _TEXT_OR_NULL, "details": {"type": "object"}} | _OF_ITEM),
    ),
    EventKind(
        EventType.NODE_SIGNAL_REFUSED,
        "A signal did not meet what its node asks of it.",
        _object({"name": _TEXT, "reason": _TEXT}, {"signal": _TEXT}),
    ),
    EventKind(
        EventType.NODE_PROGRESS,
        "A node reports how far it is. Delivered by streams and callbacks, not kept in the log.",
        _object({"fraction": {"type": "number"}, "message": _TEXT}, {"item": {}, "attempt": _NUMBER}),
        stored=False,
    ),
    EventKind(
        EventType.TRIGGER_FIRED,
        "A schedule, a webhook or an event started a run.",
        _object(_TRIGGER, {"run_id": _TEXT, **_SCHEDULE, "fire_id": _TEXT, "scheduled_for": _MOMENT, "cause": _TEXT}),
    ),
    EventKind(
        EventType.TRIGGER_PAUSED,
        "A trigger starts no runs until it is resumed: by a request, or after too many failures in a row.",
        _object(_TRIGGER | _BY | {"reason": _TEXT}, _SCHEDULE),
    ),
    EventKind(EventType.TRIGGER_RESUMED, "A paused trigger starts runs again.", _object(_TRIGGER | _BY, _SCHEDULE)),
    EventKind(
        EventType.WEBHOOK_DISABLED,
        "A webhook endpoint was disabled: it answered 410, or only failed for 5 days.",
        _object(
            {"webhook": _TEXT, "description": _TEXT, "reason": {"type": "string", "enum": ["gone", "failing"]}},
            {"failing_since": {"type": ["string", "null"], "format": "date-time"}},
        ),
    ),
)
BY_TYPE: Mapping[str, EventKind] = {kind.type.value: kind for kind in KINDS}
