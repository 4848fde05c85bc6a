"""Models of schedules and their slots, like the models in ``models``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from pyflow_client.models import _Model


class Schedule(_Model):
    """A schedule trigger of a workflow. ``state``: ``active``, ``paused``, ``finished`` or ``inactive``.

    ``fires_at`` is when the slot ``next_at`` fires, its jitter included; ``failures`` counts those in a row.
    """

    id: str
    workflow: str
    trigger: str
    version: int
    state: str
    config: dict[str, Any]
    next_at: datetime | None = None
    fires_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str | None = None
    problem: str = ""
    failures: int = 0
    created_at: datetime
    updated_at: datetime


class ScheduleFire(_Model):
    """A slot of a schedule that has passed: its run, or the ``reason`` why there is none.

    ``state``: ``buffered``, ``started``, ``ended``, ``skipped``, ``missed`` or ``failed``. One entry may be about
    several missed slots (``count``), from ``scheduled_for`` to ``until``.
    """

    id: str
    scheduled_for: datetime
    until: datetime | None = None
    count: int = 1
    cause: str
    state: str
    reason: str = ""
    message: str = ""
    run_id: str | None = None
    run_state: str | None = None
    fired_at: datetime


class ScheduleNote(_Model):
    """A remark on slots to come, such as ``dst_gap``."""

    code: str
    message: str


class PreviewedSlot(_Model):
    """A slot to come; ``local`` is the moment in the schedule's time zone."""

    scheduled_for: datetime
    local: datetime
    fires_at: datetime
    notes: list[ScheduleNote] = Field(default_factory=list)


class SchedulePreview(_Model):
    """The next slots of a schedule, and notes that hold for all of them."""

    results: list[PreviewedSlot]
    notes: list[ScheduleNote] = Field(default_factory=list)


class BackfilledSlot(_Model):
    """A slot of a backfill; ``starts``: a run is started for it, because it has had none."""

    scheduled_for: datetime
    starts: bool
    state: str | None = None


class Backfill(_Model):
    """The slots of a backfill; ``count`` of them start a run, or would after a dry run."""

    count: int
    dry_run: bool
    slots: list[BackfilledSlot]
