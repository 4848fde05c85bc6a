"""The requests about schedules. Described as in ``calls``."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pyflow_client.calls import Call, json_call, query, segment
from pyflow_client.trigger_models import Backfill, Schedule, ScheduleFire, SchedulePreview


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
