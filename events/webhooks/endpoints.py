"""Verbs about webhook endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from events.models import Delivery, EndpointState, WebhookEndpoint, WebhookSecret
from events.reading import end_of_log
from events.webhooks.errors import (
    RotationOverlapError,
    WebhookInactiveError,
    WebhookNotFoundError,
    WebhookUrlError,
)
from events.webhooks.messages import TEST_TYPE, trial_body
from events.webhooks.signing import expire_others, new_secret
from pyflow.core.events import EventType, rfc3339
from pyflow.core.ids import new_uuid
from pyflow.net.addresses import SSRFError, check_url
from runs.network import network_policy
from runs.notify.current import current_bus
from runs.storage.log import append_outside
from tenants.access import Actor
from tenants.audit import record
from tenants.plans import Quota
from tenants.quotas import check_room

#: The topic of changes that let deliveries be sent: of endpoints, and of deliveries that are due again.
WEBHOOKS = "webhooks"
#: What a person may change.
EDITABLE = ("url", "description", "types", "workflows", "labels")


def endpoints_of(tenant_id: UUID) -> QuerySet[WebhookEndpoint]:
    """Return the endpoints of a tenant."""
    return WebhookEndpoint.objects.for_tenant(tenant_id)


def find_endpoint(*, tenant_id: UUID, webhook_id: UUID, lock: bool = False) -> WebhookEndpoint:
    """Return an endpoint; ``lock`` keeps others from changing it in this transaction.

    Raises ``WebhookNotFoundError``.
    """
    rows = endpoints_of(tenant_id).filter(pk=webhook_id)
    endpoint = (rows.select_for_update(no_key=True) if lock else rows).first()
    if endpoint is None:
        raise WebhookNotFoundError(f"There is no webhook {webhook_id}.")
    return endpoint


@transaction.atomic
def create_endpoint(*, by: Actor, url: str, **values: Any) -> tuple[WebhookEndpoint, str]:
    """Store an endpoint, which is sent what happens from now on, and return it with its secret, shown this once.

    Raises ``WebhookUrlError``, ``QuotaExceededError`` or ``VaultNotConfiguredError``.
    """
    _check(url)
    check_room(tenant_id=by.tenant_id, quota=Quota.WEBHOOK_ENDPOINTS, count=endpoints_of(by.tenant_id).count)
    endpoint = WebhookEndpoint(tenant_id=by.tenant_id, url=url, **values)
    endpoint.cursor = end_of_log()
    endpoint.save(force_insert=True)
    secret = new_secret(endpoint)
    record(by=by, action="webhook.created", target=_target(endpoint), after=_shown(endpoint))
    _notify_senders()
    return endpoint, secret


@transaction.atomic
def update_endpoint(*, by: Actor, endpoint: WebhookEndpoint, changes: Mapping[str, Any]) -> WebhookEndpoint:
    """Change a locked endpoint. Events that it has not come to yet are chosen by the new filter.

    Raises ``WebhookUrlError``.
    """
    before = _shown(endpoint)
    if "url" in changes:
        _check(changes["url"])
    for name in EDITABLE:
        if name in changes:
            setattr(endpoint, name, changes[name])
    _save(endpoint, *EDITABLE)
    record(by=by, action="webhook.updated", target=_target(endpoint), before=before, after=_shown(endpoint))
    return endpoint


@transaction.atomic
def delete_endpoint(*, by: Actor, endpoint: WebhookEndpoint) -> None:
    """Delete a locked endpoint with its deliveries."""
    record(by=by, action="webhook.deleted", target=_target(endpoint), before=_shown(endpoint))
    endpoint.delete()


@transaction.atomic
def pause_endpoint(*, by: Actor, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Send a locked endpoint nothing until it is resumed; it goes on from where it was then."""
    if endpoint.state != EndpointState.PAUSED:
        endpoint.state, endpoint.disabled_reason = EndpointState.PAUSED.value, ""
        _save(endpoint, "state", "disabled_reason")
        record(by=by, action="webhook.paused", target=_target(endpoint), after=_shown(endpoint))
    return endpoint


@transaction.atomic
def resume_endpoint(*, by: Actor, endpoint: WebhookEndpoint, skip: bool = False) -> WebhookEndpoint:
    """Let a locked endpoint that was paused or disabled be sent what is pending, and what has happened meanwhile.

    ``skip``: what has happened meanwhile is left out.
    """
    if endpoint.state != EndpointState.ACTIVE:
        endpoint.state, endpoint.disabled_reason = EndpointState.ACTIVE.value, ""
        endpoint.failing_since = None
        if skip:
            endpoint.cursor = max(endpoint.cursor, end_of_log())
        _save(endpoint, "state", "disabled_reason", "failing_since", "position", "seq", "event_id")
        record(by=by, action="webhook.resumed", target=_target(endpoint), after=_shown(endpoint))
    _notify_senders()
    return endpoint


def disable(endpoint: WebhookEndpoint, reason: str) -> None:
    """Stop sending to a locked endpoint: in the audit, and as an event for its tenant's readers of the log."""
    if endpoint.state != EndpointState.ACTIVE:
        return
    endpoint.state, endpoint.disabled_reason = EndpointState.DISABLED.value, reason
    _save(endpoint, "state", "disabled_reason")
    since = endpoint.failing_since
    append_outside(
        tenant_id=endpoint.tenant_id,
        type=EventType.WEBHOOK_DISABLED.value,
        at=endpoint.updated_at,
        data={
            "webhook": str(endpoint.pk),
            "description": endpoint.description,
            "reason": reason,
            "failing_since": None if since is None else rfc3339(since.timestamp()),
        },
    )
    by = Actor.system(endpoint.tenant_id, "webhooks")
    record(by=by, action="webhook.disabled", target=_target(endpoint), after=_shown(endpoint))


@transaction.atomic
def rotate_endpoint_secret(*, by: Actor, endpoint: WebhookEndpoint, force: bool = False) -> str:
    """Give a locked endpoint a new secret, shown this once; the old one signs as well for 24 hours.

    Raises ``RotationOverlapError`` while two secrets sign, unless ``force`` gives up the older one at once.
    """
    rows = WebhookSecret.objects.for_tenant(endpoint.tenant_id).filter(endpoint=endpoint)
    ending = rows.filter(expires_at__gt=timezone.now())
    if ending.exists():
        if not force:
            raise RotationOverlapError(
                "The secret was rotated within the last 24 hours, and the receiver may still use the one before. "
                "Wait until that has expired, or send `force: true` to drop it."
            )
        ending.delete()
    secret = new_secret(endpoint)
    expire_others(endpoint)
    _save(endpoint)
    record(by=by, action="webhook.secret_rotated", target=_target(endpoint), after={"forced": force})
    return secret


@transaction.atomic
def try_endpoint(*, by: Actor, endpoint: WebhookEndpoint) -> Delivery:
    """Send a locked endpoint an event that only tries it. Raises ``WebhookInactiveError``."""
    require_active(endpoint)
    now, event_id = timezone.now(), new_uuid()
    at = rfc3339(now.timestamp())
    body = trial_body(event_id=event_id, tenant_id=endpoint.tenant_id, at=at, endpoint_id=endpoint.pk)
    delivery: Delivery = Delivery.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        event_id=event_id,
        event_type=TEST_TYPE,
        event_at=now,
        body=body,
        due_at=now,
    )
    record(by=by, action="webhook.tested", target=_target(endpoint), after={"delivery": str(delivery.pk)})
    _notify_senders()
    return delivery


def require_active(endpoint: WebhookEndpoint) -> None:
    """Raise ``WebhookInactiveError`` for an endpoint that nothing is sent to."""
    if endpoint.state != EndpointState.ACTIVE:
        raise WebhookInactiveError(f"The webhook is {endpoint.state}: nothing is sent to it. Resume it first.")


def _notify_senders() -> None:
    transaction.on_commit(notify_senders)


def notify_senders() -> None:
    """Let senders look at once, in whatever process."""
    current_bus().publish(WEBHOOKS)


def _check(url: str) -> None:
    """Raises ``WebhookUrlError`` for what can be refused without a look-up; the rest is checked by each attempt."""
    try:
        check_url(url, network_policy())
    except SSRFError as error:
        raise WebhookUrlError(str(error)) from None


def _save(endpoint: WebhookEndpoint, *fields: str) -> None:
    endpoint.updated_at = timezone.now()
    endpoint.save(update_fields=[*fields, "updated_at"])


def _target(endpoint: WebhookEndpoint) -> str:
    return f"webhook:{endpoint.pk}"


def _shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return the values for the audit. Of the URL only the origin: its path may be a credential."""
    parts = urlsplit(endpoint.url)
    return {
        "url": f"{parts.scheme}://{parts.netloc}/…",
        "description": endpoint.description,
        "types": endpoint.types,
        "workflows": endpoint.workflows,
        "labels": endpoint.labels,
        "state": endpoint.state,
        "disabled_reason": endpoint.disabled_reason,
    }
