"""Inbound webhooks over HTTP: which there are, and what came to them."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import ETAG, etag, is_known
from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.serializers import validated
from tenants.access import Permission
from tenants.api.views import TenantView
from triggers.models import DeliveryOutcome, HookDelivery, InboundHook
from triggers.services.hooks.rows import deliveries_of, find_hook, hooks_of


class HooksQuery(PageQuery):
    """Query parameters of the list of inbound webhooks."""

    workflow = serializers.CharField(required=False, max_length=128, help_text="Name of the workflow.")


class HookShape(serializers.Serializer[Any]):
    """An inbound webhook."""

    id = serializers.UUIDField()
    url = serializers.CharField(help_text="Where its requests are sent.")
    path = serializers.CharField()
    workflow = serializers.CharField(help_text="Its name.")
    version = serializers.IntegerField(help_text="Number of the version that declares it.")
    trigger = serializers.CharField(help_text="Id of the trigger in the document.")
    scheme = serializers.CharField(help_text="How senders prove who they are.")
    methods = serializers.ListField(child=serializers.CharField())
    answer = serializers.ChoiceField(["accepted", "wait"])
    rate_limit = serializers.IntegerField(help_text="Verified requests a minute.")
    refused = serializers.IntegerField(help_text="Requests that were not authentic.")
    refused_at = serializers.DateTimeField(allow_null=True, help_text="When the last of them came.")
    delivered_at = serializers.DateTimeField(allow_null=True, help_text="When the last authentic request came.")
    created_at = serializers.DateTimeField()


class HookListShape(serializers.Serializer[Any]):
    """A page of inbound webhooks, by path."""

    results = HookShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class DeliveriesQuery(PageQuery):
    """Query parameters of the deliveries of an inbound webhook."""

    outcome = serializers.ChoiceField(DeliveryOutcome.values, required=False)


class DeliveryErrorShape(serializers.Serializer[Any]):
    """The reason that a request started no run."""

    code = serializers.CharField()
    message = serializers.CharField()


class HookDeliveryShape(serializers.Serializer[Any]):
    """An authentic request to an inbound webhook."""

    id = serializers.UUIDField()
    received_at = serializers.DateTimeField()
    delivery_id = serializers.CharField(allow_null=True, help_text="Given by the sender.")
    outcome = serializers.ChoiceField(DeliveryOutcome.values)
    run_id = serializers.UUIDField(allow_null=True, help_text="The run that it started, now or the first time.")
    error = DeliveryErrorShape(allow_null=True)
    method = serializers.CharField()
    content_type = serializers.CharField(allow_blank=True)
    size = serializers.IntegerField(help_text="Bytes of the body.")
    excerpt = serializers.CharField(allow_blank=True, help_text="The beginning of the body, secrets masked.")


class HookDeliveriesShape(serializers.Serializer[Any]):
    """A page of deliveries, the newest first."""

    results = HookDeliveryShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class HooksView(TenantView):
    """The inbound webhooks of the tenant."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="hooks_list",
        summary="List inbound webhooks",
        parameters=[HooksQuery],
        responses=HookListShape,
    )
    def get(self, request: Request) -> Response:
        """List the webhooks of published versions: requests to their URLs start runs."""
        query = validated(HooksQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        rows = hooks_of(tenant_id)
        if "workflow" in query:
            rows = rows.filter(workflow__name=query["workflow"])
        page = paginate(request, rows, query, tenant_id=tenant_id, order=("path",))
        return page.response(lambda hook: show_hook(request, hook))


class HookView(TenantView):
    """One inbound webhook."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="hooks_read",
        summary="Read an inbound webhook",
        parameters=[ETAG],
        responses={200: HookShape, 304: OpenApiResponse(description="Nothing changed")},
    )
    def get(self, request: Request, hook_id: UUID) -> Response:
        """Read an inbound webhook, with the number of requests that were refused."""
        hook = find_hook(tenant_id=self.principal.tenant_id, hook_id=hook_id)
        shown = show_hook(request, hook)
        tag = etag(*shown.values())
        if is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        return Response(shown, headers={"ETag": tag})


class HookDeliveriesView(TenantView):
    """The requests that came to an inbound webhook."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="hook_deliveries_list",
        summary="List deliveries of an inbound webhook",
        parameters=[DeliveriesQuery],
        responses=HookDeliveriesShape,
    )
    def get(self, request: Request, hook_id: UUID) -> Response:
        """List authentic requests and their results; the newest 1,000 of at most 30 days are kept."""
        query = validated(DeliveriesQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        rows = deliveries_of(find_hook(tenant_id=tenant_id, hook_id=hook_id))
        if "outcome" in query:
            rows = rows.filter(outcome=query["outcome"])
        order = ("-received_at", "-id")
        return paginate(request, rows, query, tenant_id=tenant_id, order=order).response(show_delivery)


def show_hook(request: Request, hook: Any) -> dict[str, Any]:
    """``HookShape`` of a row of ``hooks_of``."""
    row: InboundHook = hook
    config = row.declaration()
    return {
        "id": str(row.pk),
        "url": request.build_absolute_uri(f"/hooks/{row.address}"),
        "path": row.path,
        "workflow": row.workflow.name,
        "version": row.version,
        "trigger": row.trigger,
        "scheme": config.verify.scheme.value,
        "methods": list(config.methods),
        "answer": "accepted" if config.waits is None else "wait",
        "rate_limit": config.rate_limit,
        "refused": row.refused,
        "refused_at": row.refused_at,
        "delivered_at": hook.delivered_at,
        "created_at": row.created_at,
    }


def show_delivery(delivery: HookDelivery) -> dict[str, Any]:
    """``HookDeliveryShape`` of a row."""
    return {
        "id": str(delivery.pk),
        "received_at": delivery.received_at,
        "delivery_id": delivery.delivery_id or None,
        "outcome": delivery.outcome,
        "run_id": None if delivery.run_id is None else str(delivery.run_id),
        "error": delivery.error,
        "method": delivery.method,
        "content_type": delivery.content_type,
        "size": delivery.size,
        "excerpt": delivery.excerpt,
    }
