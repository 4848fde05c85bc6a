"""The requests about schedules, inbound webhooks and events that start runs. Described as in ``calls``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pyflow_client.calls import Call, json_call, query, segment
from pyflow_client.trigger_models import (
    Backfill,
    EventTrigger,
    InboundHook,
    Schedule,
    ScheduleFire,
    SchedulePreview,
    SentEvents,
    TriggerFailure,
)


def schedule_path(schedule_id: str | UUID, part: str = "") -> str:
    """The path of a schedule, or of a part of it."""
    path = f"api/v1/schedules/{segment(str(schedule_id))}"
    return f"{path}/{part}" if part else path


def schedule(schedule_id: str | UUID) -> Call[Schedule]:
    """One schedule."""
    return Call("GET", schedule_path(schedule_id), Schedule)


def pause_schedule(schedule_id: str | UUID, *, paused: bool, if_match: str | None) -> Call[Schedule]:
    """Pause or resume a schedule."""
    if if_match is None:
        return Call("POST", schedule_path(schedule_id, "pause" if paused else "resume"), Schedule)
    return json_call("PATCH", schedule_path(schedule_id), Schedule, {"paused": paused}, headers={"If-Match": if_match})


def fire_schedule(schedule_id: str | UUID) -> Call[ScheduleFire]:
    """Fire a schedule now. Not repeatable: each request is a slot of its own."""
    return Call("POST", schedule_path(schedule_id, "fire"), ScheduleFire, repeatable=False)


def preview_schedule(schedule_id: str | UUID, count: int) -> Call[SchedulePreview]:
    """The next slots of a schedule."""
    return Call("GET", schedule_path(schedule_id, "preview"), SchedulePreview, params=query({"n": str(count)}))


def backfill_schedule(schedule_id: str | UUID, begin: datetime, end: datetime, *, dry_run: bool) -> Call[Backfill]:
    """Start the runs of slots in the past."""
    body = {"from": begin.astimezone().isoformat(), "to": end.astimezone().isoformat(), "dry_run": dry_run}
    return json_call("POST", schedule_path(schedule_id, "backfill"), Backfill, body)


def hook_path(hook_id: str | UUID, part: str = "") -> str:
    """The path of an inbound webhook, or of a part of it."""
    path = f"api/v1/hooks/{segment(str(hook_id))}"
    return f"{path}/{part}" if part else path


def hook(hook_id: str | UUID) -> Call[InboundHook]:
    """One inbound webhook."""
    return Call("GET", hook_path(hook_id), InboundHook)


def event_trigger_path(trigger_id: str | UUID, part: str = "") -> str:
    """The path of an event trigger, or of a part of it."""
    path = f"api/v1/event-triggers/{segment(str(trigger_id))}"
    return f"{path}/{part}" if part else path


def event_trigger(trigger_id: str | UUID) -> Call[EventTrigger]:
    """One event trigger."""
    return Call("GET", event_trigger_path(trigger_id), EventTrigger)


def retry_failure(trigger_id: str | UUID, failure_id: str | UUID) -> Call[TriggerFailure]:
    """Try a failed event again. Not repeatable: the second attempt would be refused if the first one resolved it."""
    path = event_trigger_path(trigger_id, f"failures/{segment(str(failure_id))}/retry")
    return Call("POST", path, TriggerFailure, repeatable=False)


def send_event(type: str, data: Mapping[str, Any], id: str | None, source: str, subject: str) -> Call[SentEvents]:
    """Append a custom event to the log. Repeatable with an ``id``."""
    body = {"type": type, "data": dict(data), "source": source, "subject": subject}
    body |= {} if id is None else {"id": id}
    return json_call("POST", "api/v1/events", SentEvents, body, repeatable=id is not None)
