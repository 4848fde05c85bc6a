"""Verbs about deliveries: looked up, and sent again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from events.models import Delivery, DeliveryState, WebhookEndpoint
from events.webhooks.endpoints import notify_senders
from events.webhooks.errors import DeliveryNotFoundError
from tenants.access import Actor
from tenants.audit import record

#: The most deliveries that one request makes due again.
MOST_AT_ONCE = 10_000


def deliveries_of(tenant_id: UUID) -> QuerySet[Delivery]:
    """Return the deliveries of a tenant."""
    return Delivery.objects.for_tenant(tenant_id)


def find_delivery(*, tenant_id: UUID, delivery_id: UUID, lock: bool = False) -> Delivery:
    """Return a delivery; ``lock`` keeps others from changing it. Raises ``DeliveryNotFoundError``."""
    rows = deliveries_of(tenant_id).filter(pk=delivery_id)
    delivery = (rows.select_for_update(no_key=True) if lock else rows).first()
    if delivery is None:
        raise DeliveryNotFoundError(f"There is no delivery {delivery_id}.")
    return delivery


@transaction.atomic
def redeliver(*, by: Actor, delivery_id: UUID) -> Delivery:
    """Make a delivery due now, with the same `webhook-id` and all attempts before it; once or often is the same.

    One that is being sent is left as it is. Raises ``DeliveryNotFoundError``.
    """
    delivery = find_delivery(tenant_id=by.tenant_id, delivery_id=delivery_id, lock=True)
    if not delivery.leased:
        delivery.reschedule(timezone.now())
        delivery.save(update_fields=["state", "tries", "due_at", "finished_at"])
        record(by=by, action="delivery.redelivered", target=f"delivery:{delivery.pk}")
        transaction.on_commit(notify_senders)
    return delivery


@transaction.atomic
def redeliver_range(
    *,
    by: Actor,
    endpoint: WebhookEndpoint,
    since: datetime | None,
    until: datetime | None,
    states: Collection[DeliveryState],
) -> tuple[int, bool]:
    """Make deliveries of a locked endpoint due now, oldest first, by the times of their events and their states.

    Returns how many, and whether there are more: at most ``MOST_AT_ONCE`` by one call.
    """
    rows = deliveries_of(by.tenant_id).filter(endpoint=endpoint, leased=False, state__in=[str(item) for item in states])
    if since is not None:
        rows = rows.filter(event_at__gte=since)
    if until is not None:
        rows = rows.filter(event_at__lt=until)
    now = timezone.now()
    ids = list(rows.order_by("id").values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
    more, ids = len(ids) > MOST_AT_ONCE, ids[:MOST_AT_ONCE]
    pending = DeliveryState.PENDING.value
    chosen = deliveries_of(by.tenant_id).filter(pk__in=ids, leased=False)
    count = chosen.update(state=pending, tries=0, due_at=now, finished_at=None)
    if count:
        record(
            by=by,
            action="webhook.redelivered",
            target=f"webhook:{endpoint.pk}",
            after={"deliveries": count, "since": since, "until": until, "states": sorted(map(str, states))},
        )
        transaction.on_commit(notify_senders)
    return count, more
