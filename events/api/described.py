"""Describes the requests to webhook endpoints as `webhooks` of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from events.types import KINDS, EventKind
from events.webhooks.messages import MAX_BODY

_HEADERS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "webhook-id",
        {"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
        "Of the event: the same in every attempt. It may come more than once; remember those that were handled.",
    ),
    (
        "webhook-timestamp",
        {"type": "string", "pattern": "^[0-9]+$"},
        "Seconds since 1970 of the attempt. Refuse what is more than 5 minutes away.",
    ),
    (
        "webhook-signature",
        {"type": "string"},
        "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; several with spaces between during a rotation.",
    ),
)
_THIN: dict[str, Any] = {
    "omitted": {
        "type": "array",
        "items": {"type": "string"},
        "description": f"Of an event above {MAX_BODY // 1024} KiB: the entries of `data` that are left out.",
    },
    "link": {"type": "string", "description": "The path of the API with the whole event, where some is left out."},
}


def webhooks() -> dict[str, Any]:
    """Return the path item of each type of event that is sent."""
    return {kind.type.value: {"post": _operation(kind)} for kind in KINDS if kind.stored}


def _operation(kind: EventKind) -> dict[str, Any]:
    schema = {name: value for name, value in kind.schema().items() if name != "$schema"}
    thin = {
        **schema,
        "properties": {**schema["properties"], "data": {"type": "object"}, **_THIN},
        "required": [*schema["required"], *_THIN],
    }
    return {
        "operationId": f"on_{kind.type.value.replace('.', '_')}",
        "summary": kind.description,
        "description": "Signed by Standard Webhooks, delivered at least once, in no promised order.",
        "tags": ["webhooks"],
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": described, "description": text}
            for name, described, text in _HEADERS
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [schema, thin]}}}},
        "responses": {
            "2XX": {"description": "Received, within 15 seconds"},
            "410": {"description": "No more of them: the endpoint is disabled"},
            "default": {"description": "Failed: it is sent again later"},
        },
    }
