"""Deliveries of webhooks over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from events.api.webhook_shapes import (
    DeliveriesQuery,
    DeliveryDetailShape,
    DeliveryPageShape,
    DeliveryShape,
    show_delivery,
    show_detail,
)
from events.models import DeliveryAttempt
from events.webhooks.deliveries import deliveries_of, find_delivery, redeliver
from plumbing.rest.pagination import paginate
from plumbing.rest.serializers import validated
from tenants.access import Permission
from tenants.api.views import TenantView

#: How many attempts of a delivery are shown.
MOST_ATTEMPTS = 50
_CONDITIONS: Mapping[str, str] = {
    "webhook": "endpoint",
    "state": "state__in",
    "type": "event_type",
    "run": "run_id",
    "since": "event_at__gte",
    "until": "event_at__lt",
}


class DeliveriesView(TenantView):
    """The deliveries of the tenant."""

    permissions: ClassVar = {"GET": Permission.WEBHOOKS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="deliveries_list",
        summary="List deliveries of webhooks",
        tags=["webhooks"],
        parameters=[DeliveriesQuery],
        responses=DeliveryPageShape,
    )
    def get(self, request: Request) -> Response:
        """List deliveries, newest first. Finished ones are kept for 30 days, or for as long as the plan keeps runs."""
        query = validated(DeliveriesQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        wanted: dict[str, Any] = {condition: query[name] for name, condition in _CONDITIONS.items() if query.get(name)}
        rows = deliveries_of(tenant_id).filter(**wanted).defer("body")
        return paginate(request, rows, query, tenant_id=tenant_id, order=("-id",)).response(show_delivery)


class DeliveryView(TenantView):
    """One delivery."""

    permissions: ClassVar = {"GET": Permission.WEBHOOKS_READ}

    @extend_schema(
        operation_id="deliveries_read",
        summary="Read a delivery with its attempts",
        tags=["webhooks"],
        responses=DeliveryDetailShape,
    )
    def get(self, request: Request, delivery_id: UUID) -> Response:
        """Read a delivery: the body that is sent, and the status, duration and beginning of each response."""
        delivery = find_delivery(tenant_id=self.principal.tenant_id, delivery_id=delivery_id)
        rows = DeliveryAttempt.objects.for_tenant(self.principal.tenant_id).filter(delivery=delivery)
        attempts = list(rows.order_by("-number")[:MOST_ATTEMPTS])
        return Response(show_detail(delivery, reversed(attempts)))


class RedeliverView(TenantView):
    """Sending one delivery again."""

    permissions: ClassVar = {"POST": Permission.WEBHOOKS_WRITE}
    reads_no_body = frozenset({"POST"})

    @extend_schema(
        operation_id="deliveries_redeliver",
        summary="Send a delivery again",
        tags=["webhooks"],
        request=None,
        responses={202: DeliveryShape},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Send it now, with the same `webhook-id` and all attempts of a new delivery. Repeating this does no harm.

        To an endpoint that is paused or disabled, it is sent once that is resumed.
        """
        return Response(show_delivery(redeliver(by=self.actor, delivery_id=delivery_id)), status=202)
