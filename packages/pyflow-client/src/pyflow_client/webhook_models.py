"""Answers of the API about webhook endpoints and deliveries, as the models in ``models``."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from pyflow_client.models import _Model


class WebhookEndpoint(_Model):
    """An endpoint that events are sent to. ``secret`` is there once: when it was made."""

    id: str
    url: str = Field(repr=False)
    description: str = ""
    types: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    state: str
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    missed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    secret: str | None = Field(default=None, repr=False)


class DeliveryAttempt(_Model):
    """One request of a delivery, and the beginning of what was answered."""

    number: int
    at: datetime
    duration_ms: int
    status: int | None = None
    error: str | None = None
    excerpt: str = ""


class Delivery(_Model):
    """An event that was, or is to be, sent to an endpoint; ``body`` and ``log`` are there when one delivery is read."""

    id: str
    webhook: str
    message_id: str
    event_id: str
    type: str
    event_at: datetime
    run_id: str | None = None
    state: str
    attempts: int
    next_attempt_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None
    created_at: datetime
    finished_at: datetime | None = None
    body: str | None = None
    log: tuple[DeliveryAttempt, ...] = ()


class Redelivered(_Model):
    """The number of deliveries that are sent again; ``has_more``: ask again once these are sent."""

    deliveries: int
    has_more: bool
