"""Reads the log of tenants on behalf of their endpoints, and makes the deliveries of what is new."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from events.cursor import Cursor
from events.models import Delivery, EndpointState, WebhookEndpoint
from events.reading import read
from events.webhooks.messages import body_of
from runs.models import EventRecord
from runs.storage import log
from tenants.access import Actor
from tenants.audit import record

#: The most events that are read for an endpoint in one transaction.
BATCH = 200
#: The most endpoints that are advanced before deliveries are sent again.
ENDPOINTS = 50


def active_endpoints() -> QuerySet[WebhookEndpoint]:
    """Return the endpoints, of all tenants, that deliveries are made for and sent to."""
    rows = WebhookEndpoint.objects.across_tenants()
    return rows.filter(state=EndpointState.ACTIVE.value, tenant__suspended_at__isnull=True)


def tenants_with_endpoints() -> set[UUID]:
    """Return the tenants that have an active endpoint."""
    return set(active_endpoints().order_by().values_list("tenant_id", flat=True).distinct())


def advance_endpoints(*, limit: int = BATCH) -> bool:
    """Advance each active endpoint that is behind by at most ``limit`` events; return whether there may be more."""
    behind = list(_behind()[:ENDPOINTS])
    more = [advance(endpoint_id, limit=limit) for endpoint_id in behind]
    return any(more) or len(behind) == ENDPOINTS


def _behind() -> QuerySet[WebhookEndpoint, UUID]:
    """The ids of the endpoints with events after their cursor, those that were served longest ago first."""
    position, seq, event_id = OuterRef("position"), OuterRef("seq"), OuterRef("event_id")
    same = Q(position=position) & (Q(seq__gt=seq) | Q(seq=seq, id__gt=event_id))
    events = EventRecord.objects.across_tenants().filter(tenant=OuterRef("tenant"), position__gte=position)
    events = events.filter(Q(position__gt=position) | same, position__lt=log.horizon())
    return active_endpoints().filter(Exists(events)).order_by("served_at").values_list("pk", flat=True)


@transaction.atomic
def advance(endpoint_id: UUID, *, limit: int = BATCH) -> bool:
    """Make the deliveries of an endpoint's next events, and move its cursor, in one transaction.

    Nothing is done for an endpoint that another process is advancing. Returns whether there were more events.
    """
    skip = connection.features.has_select_for_update_skip_locked
    rows = active_endpoints().filter(pk=endpoint_id)
    endpoint = rows.select_for_update(of=("self",), skip_locked=skip, no_key=True).first()
    if endpoint is None:
        return False
    page = read(endpoint.tenant_id, after=endpoint.cursor, wanted=endpoint.wanted, limit=limit, across_gaps=True)
    _note_gap(endpoint)  # asked after the events: some may have been removed just before they were read
    now = timezone.now()
    deliveries = [
        Delivery(
            tenant_id=endpoint.tenant_id,
            endpoint=endpoint,
            event_id=event.pk,
            event_type=event.type,
            event_at=event.at,
            run_id=event.run_id,
            body=body_of(event),
            due_at=now,
            created_at=now,
        )
        for event in page.events
    ]
    Delivery.objects.bulk_create(deliveries, ignore_conflicts=True)
    endpoint.cursor = page.next
    endpoint.save(update_fields=["position", "seq", "event_id"])
    return page.has_more


def _note_gap(endpoint: WebhookEndpoint) -> None:
    """Record that events were removed before they were read: the endpoint, and the audit, say so from now on."""
    removed = log.removed_to(endpoint.tenant_id)
    if removed <= endpoint.missed_to or endpoint.cursor >= Cursor.end_of(removed):
        return
    endpoint.missed_to, endpoint.missed_at = removed, timezone.now()
    endpoint.save(update_fields=["missed_to", "missed_at"])
    by = Actor.system(endpoint.tenant_id, "webhooks")
    record(by=by, action="webhook.events_missed", target=f"webhook:{endpoint.pk}")
