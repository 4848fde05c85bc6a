"""Models of schedules, inbound webhooks and event triggers, like the models in ``models``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from pyflow_client.models import Event, _Model


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


class InboundHook(_Model):
    """A webhook that starts runs: requests to ``url``, verified by ``scheme``; ``refused`` counts the others."""

    id: str
    url: str
    path: str
    workflow: str
    version: int
    trigger: str
    scheme: str
    methods: list[str]
    answer: str
    rate_limit: int
    refused: int
    refused_at: datetime | None = None
    delivered_at: datetime | None = None
    created_at: datetime


class TriggerError(_Model):
    """The failure of a request or an event to start a run."""

    code: str
    message: str


class HookDelivery(_Model):
    """A request to an inbound webhook. ``outcome``: ``accepted``, ``duplicate`` or ``failed``."""

    id: str
    received_at: datetime
    delivery_id: str | None = None
    outcome: str
    run_id: str | None = None
    error: TriggerError | None = None
    method: str
    content_type: str
    size: int
    excerpt: str


class EventTrigger(_Model):
    """A trigger that events ``on`` of ``from_workflows`` (none: of any) fire, or their absence ``within`` seconds."""

    id: str
    workflow: str
    version: int
    trigger: str
    on: list[str]
    from_workflows: list[str]
    within: float | None = None
    open_failures: int
    fired_at: datetime | None = None
    created_at: datetime


class TriggerFailure(_Model):
    """An event that no run could be started for. ``state``: ``waiting``, ``dead`` or ``resolved``."""

    id: str
    event: dict[str, Any] | None = None
    error: TriggerError
    attempts: int
    state: str
    due_at: datetime | None = None
    run_id: str | None = None
    created_at: datetime
    updated_at: datetime


class SentEvents(_Model):
    """Events that were sent, as they are in the log."""

    results: list[Event]
