"""Takes due deliveries under a lease, sends each once, and records the attempt if the lease still holds.

Requests are sent outside of transactions. A sender that is killed between its request and the record leaves a lease
that ends: the delivery is sent again, with the same ``webhook-id``, which is how receivers tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Case, Count, Exists, F, IntegerField, OuterRef, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from events.models import Delivery, DeliveryAttempt, DeliveryState, WebhookEndpoint, WebhookSecret
from events.webhooks.advancing import active_endpoints
from events.webhooks.endpoints import disable
from events.webhooks.schedule import GIVE_UP_AFTER, pause_after
from events.webhooks.signing import headers, signing_secrets
from pyflow.core.errors import PyFlowError
from pyflow.core.messages import cut
from pyflow.core.redaction import Redactor
from pyflow.net.addresses import SSRFError
from runs.network import network_policy

#: Seconds of one attempt in all, the look-up of the name included.
TIMEOUT = 15.0
#: Bytes of an answer that are read, and characters of it that are kept.
MAX_ANSWER, MAX_EXCERPT = 64 * 1024, 1000
#: How long a sender has a delivery for itself; its request ends well before.
LEASE = timedelta(seconds=60)
#: No request is begun so long after the lease was taken. Monotonic seconds: the process may have been frozen.
TRUSTED_SECONDS = LEASE.total_seconds() - TIMEOUT - 15.0
#: How many deliveries of an endpoint are sent at a time; of one whose last attempt failed.
AT_ONCE, FAILING_AT_ONCE = 8, 1
#: From how many endpoints deliveries are taken in one transaction.
ENDPOINTS = 20
#: The receiver wants no more of them.
GONE = 410


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that this process may send once, until its lease ends."""

    delivery: Delivery
    url: str
    keys: tuple[str, ...]
    unreadable: str
    taken_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a request. ``error`` is a kind of failure, or empty for a status of 2xx."""

    at: datetime
    duration_ms: int
    status: int | None = None
    error: str = ""
    excerpt: str = ""


def take_due(room: int) -> list[Taken]:
    """Take up to ``room`` due deliveries: fairly between endpoints, and no more of each than it may have at a time."""
    taken_at, now = time.monotonic(), timezone.now()
    chosen = list(_endpoints_with_room(now).values_list("pk", flat=True)[: min(room, ENDPOINTS)])
    if not chosen:  # no transaction: on SQLite, each keeps others from writing
        return []
    with transaction.atomic():
        endpoints = _locked(chosen)
        share = max(1, room // max(1, len(endpoints)))  # each has its turn, however much another one waits for
        taken = [delivery for endpoint in endpoints.values() for delivery in _lease(endpoint, share, now)]
        WebhookEndpoint.objects.across_tenants().filter(pk__in=endpoints).update(served_at=now)
        secrets = list(signing_secrets(endpoints.values(), now)) if taken else []
    keys = {pk: _keys([secret for secret in secrets if secret.endpoint_id == pk]) for pk in endpoints}
    return [
        Taken(delivery, endpoints[delivery.endpoint_id].url, *keys[delivery.endpoint_id], taken_at)
        for delivery in taken
    ]


def _locked(chosen: Sequence[UUID]) -> dict[UUID, WebhookEndpoint]:
    """The active endpoints that no other sender has locked, by their ids."""
    skip = connection.features.has_select_for_update_skip_locked
    rows = active_endpoints().filter(pk__in=chosen)
    rows = rows.select_for_update(of=("self",), skip_locked=skip, no_key=True).order_by("served_at")
    return {endpoint.pk: endpoint for endpoint in rows}


def _lease(endpoint: WebhookEndpoint, share: int, now: datetime) -> list[Delivery]:
    """Lease due deliveries of a locked endpoint, the longest due first."""
    rows = Delivery.objects.for_tenant(endpoint.tenant_id).filter(endpoint=endpoint)
    most = AT_ONCE if endpoint.failing_since is None else FAILING_AT_ONCE
    left = min(most - rows.filter(leased=True, due_at__gt=now).count(), share)
    if left <= 0:
        return []
    skip = connection.features.has_select_for_update_skip_locked
    due = rows.filter(**_due(now)).select_for_update(of=("self",), skip_locked=skip, no_key=True)
    deliveries = list(due.order_by("due_at", "id")[:left])
    leased = rows.filter(pk__in=[delivery.pk for delivery in deliveries])
    leased.update(leased=True, due_at=now + LEASE, epoch=F("epoch") + 1)
    for delivery in deliveries:
        delivery.epoch += 1
    return deliveries


def _keys(secrets: Sequence[WebhookSecret]) -> tuple[tuple[str, ...], str]:
    """The secrets of an endpoint that can be read, and why another one cannot."""
    keys, reason = [], ""
    for secret in secrets:
        try:
            keys.append(secret.open())
        except PyFlowError as error:
            reason = str(error)
    return tuple(keys), reason


def _endpoints_with_room(now: datetime) -> Any:
    """The active endpoints that have something due and no full hands, those that were served longest ago first."""
    due = Delivery.objects.across_tenants().filter(endpoint=OuterRef("pk"), **_due(now))
    leased = Delivery.objects.across_tenants().filter(endpoint=OuterRef("pk"), leased=True, due_at__gt=now)
    count = leased.order_by().values("endpoint").annotate(count=Count("pk")).values("count")
    most = Case(When(failing_since__isnull=True, then=Value(AT_ONCE)), default=Value(FAILING_AT_ONCE))
    rows = active_endpoints().filter(Exists(due))
    rows = rows.annotate(held=Coalesce(Subquery(count, output_field=IntegerField()), 0))
    return rows.filter(held__lt=most).order_by("served_at")


def _due(now: datetime) -> dict[str, Any]:
    return {"state": DeliveryState.PENDING.value, "due_at__lte": now}


async def send(taken: Taken, clock: Callable[[], float] = time.monotonic) -> Outcome | None:
    """Send the request of a delivery; ``None``, and no request, if its lease may have ended before that."""
    from pyflow.net.http_client import (  # noqa: PLC0415 - httpx2 takes longer to import than all else
        HttpTimeoutError,
        InvalidRequestError,
        is_network_failure,
        request,
    )

    at, began = timezone.now(), clock()
    if began - taken.taken_at > TRUSTED_SECONDS:
        return None

    def outcome(**values: Any) -> Outcome:
        return Outcome(at, max(0, round((clock() - began) * 1000)), **values)

    if not taken.keys:
        reason = taken.unreadable or "The endpoint has no secret to sign with. Rotate it."
        return outcome(error="secret_unreadable", excerpt=reason)
    body, redactor = taken.delivery.body, Redactor()
    for key in taken.keys:
        redactor.add(key)
    signed = headers(taken.delivery.message_id, body, taken.keys, at)
    try:
        answer = await request(
            "POST",
            taken.url,
            headers={"Content-Type": "application/json", "User-Agent": "PyFlow-Webhooks/1"} | signed,
            content=body.encode(),
            timeout=TIMEOUT,
            max_bytes=MAX_ANSWER,
            cut=True,
            follow_redirects=False,
            policy=network_policy(),
        )
    except SSRFError as error:
        return outcome(error="address_refused", excerpt=_excerpt(str(error), redactor))
    except HttpTimeoutError as error:
        return outcome(error="timeout", excerpt=_excerpt(str(error), redactor))
    except InvalidRequestError as error:
        return outcome(error="invalid_request", excerpt=_excerpt(str(error), redactor))
    except Exception as error:
        if not is_network_failure(error):
            raise
        return outcome(error="connection", excerpt=_excerpt(str(error), redactor))
    kind = "" if answer.is_success else "status"
    return outcome(status=answer.status, error=kind, excerpt=_excerpt(answer.text, redactor))


def _excerpt(text: str, redactor: Redactor) -> str:
    """The beginning of what a receiver says, masked first and cut then; PostgreSQL stores no NUL."""
    return cut(redactor.redact_message(text).replace("\0", "�"), MAX_EXCERPT)


def record_attempts(done: Sequence[tuple[Taken, Outcome]]) -> int:
    """Record attempts and what follows from them, in one transaction for each endpoint; return how many.

    An attempt of a delivery that another sender has by now is not recorded. A failure schedules the next attempt, or
    was the last. An endpoint that answers 410, or has only failed for days, is disabled; what is pending then waits for
    it to be resumed.
    """
    by_endpoint: dict[UUID, list[tuple[Taken, Outcome]]] = {}
    for taken, outcome in done:
        by_endpoint.setdefault(taken.delivery.endpoint_id, []).append((taken, outcome))
    return sum(_record_of_endpoint(group) for group in by_endpoint.values())


@transaction.atomic
def _record_of_endpoint(done: Sequence[tuple[Taken, Outcome]]) -> int:
    first = done[0][0].delivery
    endpoints = WebhookEndpoint.objects.for_tenant(first.tenant_id).filter(pk=first.endpoint_id)
    endpoint = endpoints.select_for_update(no_key=True).first()
    if endpoint is None:
        return 0
    held = Delivery.objects.for_tenant(first.tenant_id).filter(pk__in=[taken.delivery.pk for taken, _ in done])
    held = held.filter(leased=True, state=DeliveryState.PENDING.value).defer("body")
    rows = {(row.pk, row.epoch): row for row in held.select_for_update(no_key=True).order_by("id")}
    found = [(rows.pop((taken.delivery.pk, taken.delivery.epoch), None), outcome) for taken, outcome in done]
    recorded = [(row, outcome) for row, outcome in found if row is not None]
    now = timezone.now()
    DeliveryAttempt.objects.bulk_create([_attempted(row, outcome, now) for row, outcome in recorded])
    Delivery.objects.for_tenant(first.tenant_id).bulk_update([row for row, _ in recorded], _CHANGED)
    for _, outcome in recorded:
        _judge(endpoint, outcome, now)
    return len(recorded)


#: What an attempt changes of its delivery.
_CHANGED = ("attempts", "tries", "leased", "last_status", "last_error", "state", "due_at", "finished_at")


def _attempted(row: Delivery, outcome: Outcome, now: datetime) -> DeliveryAttempt:
    """Count an attempt in its delivery and schedule the next one; return its record. Neither is stored yet."""
    row.attempts, row.tries, row.leased = row.attempts + 1, row.tries + 1, False
    row.last_status, row.last_error = outcome.status, outcome.error
    _schedule(row, now)
    return DeliveryAttempt(
        tenant_id=row.tenant_id,
        delivery=row,
        number=row.attempts,
        at=outcome.at,
        duration_ms=outcome.duration_ms,
        status=outcome.status,
        error=outcome.error,
        excerpt=outcome.excerpt,
    )


def _schedule(row: Delivery, now: datetime) -> None:
    pause = pause_after(row.tries) if row.last_error else None
    if pause is not None:
        row.due_at = now + pause
        return
    row.state = (DeliveryState.EXHAUSTED if row.last_error else DeliveryState.DELIVERED).value
    row.due_at, row.finished_at = None, now


def _judge(endpoint: WebhookEndpoint, outcome: Outcome, now: datetime) -> None:
    """Note whether the endpoint works, and disable one that is gone or has not worked for days."""
    if not outcome.error:
        if endpoint.failing_since is not None:
            endpoint.failing_since = None
            endpoint.save(update_fields=["failing_since"])
        return
    if endpoint.failing_since is None:
        endpoint.failing_since = now
        endpoint.save(update_fields=["failing_since"])
    if outcome.status == GONE:
        disable(endpoint, "gone")
    elif now - endpoint.failing_since >= GIVE_UP_AFTER:
        disable(endpoint, "failing")


def next_due_at() -> datetime | None:
    """Return when the next delivery to an active endpoint is due."""
    first = Delivery.objects.across_tenants().filter(endpoint=OuterRef("pk"), state=DeliveryState.PENDING.value)
    rows = active_endpoints().annotate(first=Subquery(first.order_by("due_at").values("due_at")[:1]))
    return rows.filter(first__isnull=False).order_by("first").values_list("first", flat=True).first()
