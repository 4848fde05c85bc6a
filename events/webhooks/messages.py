"""Bodies of webhooks: the one shape of events, and what takes the place of one that is too large."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from events.cursor import Cursor
from plumbing.rest.formats import to_json
from runs.models import EventRecord

#: The most bytes of a body; Standard Webhooks recommends it.
MAX_BODY = 20 * 1024
#: Of the data of a larger event, the entries of at most so many bytes are sent.
MAX_ENTRY = 512


def body_of(event: EventRecord) -> str:
    """Return the JSON of an event; of one above ``MAX_BODY``, the small entries of its data and a link to the rest.

    ``link`` is a path of the API: the page of the log with that event. ``omitted`` names the entries that are left out.
    """
    shape = event.as_dict()
    body = to_json(shape)
    if len(body) <= MAX_BODY:
        return body.decode()
    kept: dict[str, Any] = {}
    for name, value in shape["data"].items():
        if len(to_json({name: value})) <= MAX_ENTRY and len(to_json(kept)) <= MAX_BODY // 2:
            kept[name] = value
    omitted = sorted(name for name in shape["data"].keys() - kept.keys() if len(name) <= MAX_ENTRY)[:20]
    return to_json(shape | {"data": kept, "omitted": omitted, "link": link_to(event)}).decode()


def link_to(event: EventRecord) -> str:
    """Return the path of the page of the log that has this event alone."""
    before = Cursor(event.position, event.seq, UUID(int=event.pk.int - 1))
    return f"/api/v1/events?after={before.encode(event.tenant_id)}&limit=1"


def trial_body(*, event_id: UUID, tenant_id: UUID, at: str, endpoint_id: UUID) -> str:
    """Return the JSON of an event that exists only to try an endpoint: it is in no log."""
    shape = {
        "id": str(event_id),
        "seq": 0,
        "type": TEST_TYPE,
        "at": at,
        "tenant": str(tenant_id),
        "workflow": None,
        "version": None,
        "run_id": None,
        "node_id": None,
        "data": {"webhook": str(endpoint_id)},
    }
    return json.dumps(shape, separators=(",", ":"))


#: The type of the event that tries an endpoint.
TEST_TYPE = "webhook.test"
