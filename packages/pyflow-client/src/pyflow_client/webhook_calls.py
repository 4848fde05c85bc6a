"""The requests about webhook endpoints and deliveries. Described as in ``calls``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pyflow_client.calls import Call, json_call, segment
from pyflow_client.models import Nothing
from pyflow_client.webhook_models import Delivery, Redelivered, WebhookEndpoint

WEBHOOKS = "api/v1/webhooks"
DELIVERIES = "api/v1/deliveries"


def webhook_path(webhook_id: str | UUID) -> str:
    """Return the path of an endpoint."""
    return f"{WEBHOOKS}/{segment(str(webhook_id))}"


def create_webhook(url: str, values: Mapping[str, Any]) -> Call[WebhookEndpoint]:
    """An endpoint. Not repeatable: its secret is shown once."""
    body = {"url": url} | {name: value for name, value in values.items() if value is not None}
    return json_call("POST", WEBHOOKS, WebhookEndpoint, body, repeatable=False)


def get_webhook(webhook_id: str | UUID) -> Call[WebhookEndpoint]:
    """One endpoint, without its secret."""
    return Call("GET", webhook_path(webhook_id), WebhookEndpoint)


def update_webhook(webhook_id: str | UUID, changes: Mapping[str, Any], if_match: str) -> Call[WebhookEndpoint]:
    """Changes of an endpoint."""
    return json_call("PATCH", webhook_path(webhook_id), WebhookEndpoint, dict(changes), headers={"If-Match": if_match})


def delete_webhook(webhook_id: str | UUID) -> Call[Nothing]:
    """The end of an endpoint. Not repeatable: the second time there is none."""
    return Call("DELETE", webhook_path(webhook_id), Nothing, repeatable=False)


def rotate_webhook(webhook_id: str | UUID, force: bool) -> Call[WebhookEndpoint]:
    """A new secret. Not repeatable: it is shown once."""
    path = f"{webhook_path(webhook_id)}/rotate"
    return json_call("POST", path, WebhookEndpoint, {"force": force}, repeatable=False)


def test_webhook(webhook_id: str | UUID) -> Call[Delivery]:
    """A test event. Not repeatable: each request sends one."""
    return Call("POST", f"{webhook_path(webhook_id)}/test", Delivery, repeatable=False)


def pause_webhook(webhook_id: str | UUID) -> Call[WebhookEndpoint]:
    """Nothing is sent; twice is once."""
    return Call("POST", f"{webhook_path(webhook_id)}/pause", WebhookEndpoint)


def resume_webhook(webhook_id: str | UUID, skip: bool) -> Call[WebhookEndpoint]:
    """Sending goes on; twice is once."""
    return json_call("POST", f"{webhook_path(webhook_id)}/resume", WebhookEndpoint, {"skip": skip})


def redeliver_webhook(
    webhook_id: str | UUID, since: datetime | None, until: datetime | None, states: Collection[str] | None
) -> Call[Redelivered]:
    """Deliveries of an endpoint again. Not repeatable: those that were delivered meanwhile would be sent once more."""
    body: dict[str, Any] = {} if states is None else {"states": sorted(states)}
    body |= {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}
    return json_call("POST", f"{webhook_path(webhook_id)}/redeliver", Redelivered, body, repeatable=False)


def get_delivery(delivery_id: str | UUID) -> Call[Delivery]:
    """One delivery with its attempts."""
    return Call("GET", f"{DELIVERIES}/{segment(str(delivery_id))}", Delivery)


def redeliver(delivery_id: str | UUID) -> Call[Delivery]:
    """A delivery again. Not repeatable: it may have been delivered meanwhile."""
    return Call("POST", f"{DELIVERIES}/{segment(str(delivery_id))}/redeliver", Delivery, repeatable=False)
