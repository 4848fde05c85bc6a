"""Append events of applications to the log of their tenant, each once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from pyflow.core.events import rfc3339
from pyflow.core.ids import new_uuid
from runs.errors import EventTooLargeError
from runs.models import EventRecord
from runs.storage.log import append_outside

#: Bytes of the data of an event, as JSON.
MAX_DATA = 64 * 1024
#: Events of one request.
MAX_EVENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomEvent:
    """An event of an application. Without an ``id``, each one that is sent is another one.

    ``time``: when it happened, as its sender says. The log has the time at which it was appended.
    """

    type: str
    data: Mapping[str, Any]
    id: str | None = None
    time: datetime | None = None
    source: str = ""
    subject: str = ""


def append_events(*, tenant_id: UUID, events: Sequence[CustomEvent]) -> list[EventRecord]:
    """Append events in their order; return for each the one in the log, which may have been there before.

    Raises ``EventTooLargeError``, and appends none then.
    """
    for number, event in enumerate(events):
        if len(json.dumps(event.data, ensure_ascii=False).encode()) > MAX_DATA:
            raise EventTooLargeError(
                f"The data of the event {number} has more than {MAX_DATA:,} bytes. Store it elsewhere, and send where."
            )
    now = timezone.now()
    return [
        append_outside(
            tenant_id=tenant_id,
            type=event.type,
            at=now,
            data=dict(event.data),
            key=None if event.id is None else _key(event.source, event.id),
            origin=_origin(event),
        )
        for event in events
    ]


def _origin(event: CustomEvent) -> dict[str, str]:
    time = {} if event.time is None else {"time": rfc3339(event.time.timestamp())}
    return {"id": event.id or str(new_uuid()), "source": event.source, "subject": event.subject, **time}


def _key(source: str, id: str) -> str:
    """A key of the log that no built-in event has."""
    return f"custom:{hashlib.sha256(json.dumps([source, id]).encode()).hexdigest()}"
