"""Webhook endpoints over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from events.api.webhook_shapes import (
    CreateWebhook,
    DeliveryShape,
    NewWebhookShape,
    RedeliveredShape,
    RedeliverRange,
    ResumeWebhook,
    RotateWebhook,
    UpdateWebhook,
    WebhookPageShape,
    WebhookShape,
    show_delivery,
    show_webhook,
    tag,
)
from events.models import DeliveryState, WebhookEndpoint
from events.webhooks.deliveries import redeliver_range
from events.webhooks.endpoints import (
    create_endpoint,
    delete_endpoint,
    endpoints_of,
    find_endpoint,
    pause_endpoint,
    resume_endpoint,
    rotate_endpoint_secret,
    try_endpoint,
    update_endpoint,
)
from plumbing.rest.conditional import ETAG, IF_MATCH, IF_MATCH_OPTIONAL, check_match, is_known
from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.problems import MISSED, UNCONDITIONAL, problem
from plumbing.rest.serializers import validated
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.plans import Quota

LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[201, 202], description="URL of the new object."
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="An earlier `ETag`: 304 if nothing has changed since."
)
REFUSED = problem(422, "The body is not valid, or the URL is not one that webhooks are sent to")
NO_VAULT = problem(503, "The server has no usable master key, so the secret cannot be stored")
INACTIVE = problem(409, "The endpoint is paused or disabled")
WRITE: dict[str, Permission | None] = {"POST": Permission.WEBHOOKS_WRITE}


class WebhooksView(TenantView):
    """The endpoints of the tenant."""

    permissions: ClassVar = {"GET": Permission.WEBHOOKS_READ, "POST": Permission.WEBHOOKS_WRITE}
    reads_query = frozenset({"GET"})
    limited_by: ClassVar = {"POST": (Quota.WEBHOOK_ENDPOINTS,)}
    shown_once = ("secret",)

    @extend_schema(
        operation_id="webhooks_list",
        summary="List webhook endpoints",
        tags=["webhooks"],
        parameters=[PageQuery],
        responses=WebhookPageShape,
    )
    def get(self, request: Request) -> Response:
        """List endpoints, newest first."""
        query = validated(PageQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        page = paginate(request, endpoints_of(tenant_id), query, tenant_id=tenant_id, order=("-id",))
        return page.response(show_webhook)

    @extend_schema(
        operation_id="webhooks_create",
        summary="Create a webhook endpoint",
        tags=["webhooks"],
        parameters=[LOCATION, ETAG],
        request=CreateWebhook,
        responses={201: NewWebhookShape, **REFUSED, **NO_VAULT},
    )
    def post(self, request: Request) -> Response:
        """From now on, each event that passes the filters is sent to the URL, signed by Standard Webhooks.

        The response contains the secret that verifies the signatures; it is shown only once. Deliveries come at least
        once and in no promised order: `webhook-id` recognises repetitions.
        """
        endpoint, secret = create_endpoint(by=self.actor, **validated(CreateWebhook, request.data))
        location = reverse("webhook", kwargs={"webhook_id": endpoint.pk}, request=request)
        headers = {"Location": location, "ETag": tag(endpoint)}
        return Response(show_webhook(endpoint) | {"secret": secret}, status=201, headers=headers)


class OfWebhook(TenantView):
    """Base of what is about one endpoint."""

    def found(self, webhook_id: UUID, *, lock: bool = True) -> WebhookEndpoint:
        """Return the endpoint; ``lock`` keeps others from changing it."""
        return find_endpoint(tenant_id=self.principal.tenant_id, webhook_id=webhook_id, lock=lock)

    def shown(self, endpoint: WebhookEndpoint, **more: Any) -> Response:
        """Return the endpoint as an answer."""
        return Response(show_webhook(endpoint) | more, headers={"ETag": tag(endpoint)})


class WebhookView(OfWebhook):
    """One endpoint."""

    permissions: ClassVar = {
        "GET": Permission.WEBHOOKS_READ,
        "PATCH": Permission.WEBHOOKS_WRITE,
        "DELETE": Permission.WEBHOOKS_WRITE,
    }

    @extend_schema(
        operation_id="webhooks_read",
        summary="Read a webhook endpoint",
        tags=["webhooks"],
        parameters=[IF_NONE_MATCH, ETAG],
        responses={200: WebhookShape, 304: OpenApiResponse(description="Nothing changed")},
    )
    def get(self, request: Request, webhook_id: UUID) -> Response:
        """Read an endpoint, without its secret."""
        endpoint = self.found(webhook_id, lock=False)
        if is_known(request, tag(endpoint)):
            return Response(status=304, headers={"ETag": tag(endpoint)})
        return self.shown(endpoint)

    @extend_schema(
        operation_id="webhooks_update",
        summary="Change a webhook endpoint",
        tags=["webhooks"],
        parameters=[IF_MATCH, ETAG],
        request=UpdateWebhook,
        responses={200: WebhookShape, **REFUSED, **MISSED, **UNCONDITIONAL},
    )
    def patch(self, request: Request, webhook_id: UUID) -> Response:
        """Change the URL, the description or the filters. Deliveries that are pending go to the new URL."""
        endpoint = self.found(webhook_id)
        check_match(request, tag(endpoint), required=True)
        changes = validated(UpdateWebhook, request.data)
        return self.shown(update_endpoint(by=self.actor, endpoint=endpoint, changes=changes))

    @extend_schema(
        operation_id="webhooks_delete",
        summary="Delete a webhook endpoint",
        tags=["webhooks"],
        parameters=[IF_MATCH_OPTIONAL],
        responses={204: OpenApiResponse(description="Deleted"), **MISSED},
    )
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        """Delete an endpoint with its secrets and deliveries."""
        endpoint = self.found(webhook_id)
        check_match(request, tag(endpoint), required=False)
        delete_endpoint(by=self.actor, endpoint=endpoint)
        return Response(status=204)


class RotateWebhookView(OfWebhook):
    """The secret of one endpoint."""

    permissions: ClassVar = WRITE
    shown_once = ("secret",)

    @extend_schema(
        operation_id="webhooks_rotate",
        summary="Replace the secret of a webhook endpoint",
        tags=["webhooks"],
        parameters=[ETAG],
        request=RotateWebhook,
        responses={
            200: NewWebhookShape,
            **problem(409, "The secret was replaced within the last 24 hours, and `force` is not set"),
            **NO_VAULT,
        },
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Return a new secret, shown only once. For 24 hours each request is signed with the old one, too."""
        endpoint, body = self.found(webhook_id), validated(RotateWebhook, request.data)
        secret = rotate_endpoint_secret(by=self.actor, endpoint=endpoint, force=body["force"])
        return self.shown(endpoint, secret=secret)


class TestWebhookView(OfWebhook):
    """Trying one endpoint."""

    permissions: ClassVar = WRITE
    reads_no_body = frozenset({"POST"})

    @extend_schema(
        operation_id="webhooks_test",
        summary="Send a test event to a webhook endpoint",
        tags=["webhooks"],
        parameters=[LOCATION],
        request=None,
        responses={202: DeliveryShape, **INACTIVE},
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send an event of the type `webhook.test`, whatever the filters are. It is retried as any other."""
        delivery = try_endpoint(by=self.actor, endpoint=self.found(webhook_id))
        location = reverse("delivery", kwargs={"delivery_id": delivery.pk}, request=request)
        return Response(show_delivery(delivery), status=202, headers={"Location": location})


class PauseWebhookView(OfWebhook):
    """Pausing one endpoint."""

    permissions: ClassVar = WRITE
    reads_no_body = frozenset({"POST"})

    @extend_schema(
        operation_id="webhooks_pause",
        summary="Pause a webhook endpoint",
        tags=["webhooks"],
        parameters=[ETAG],
        request=None,
        responses=WebhookShape,
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send nothing until it is resumed. Pausing a paused endpoint changes nothing."""
        return self.shown(pause_endpoint(by=self.actor, endpoint=self.found(webhook_id)))


class ResumeWebhookView(OfWebhook):
    """Resuming one endpoint."""

    permissions: ClassVar = WRITE

    @extend_schema(
        operation_id="webhooks_resume",
        summary="Resume a webhook endpoint",
        tags=["webhooks"],
        parameters=[ETAG],
        request=ResumeWebhook,
        responses=WebhookShape,
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send what is pending, and what has happened since it was paused or disabled, as far as it is still kept."""
        endpoint, body = self.found(webhook_id), validated(ResumeWebhook, request.data)
        return self.shown(resume_endpoint(by=self.actor, endpoint=endpoint, skip=body["skip"]))


class RedeliverWebhookView(OfWebhook):
    """Sending deliveries of one endpoint again."""

    permissions: ClassVar = WRITE

    @extend_schema(
        operation_id="webhooks_redeliver",
        summary="Send deliveries of a webhook endpoint again",
        tags=["webhooks"],
        request=RedeliverRange,
        responses={202: RedeliveredShape},
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send those in the given states and range again, with the same `webhook-id`s; at most 10,000 by one request.

        Those that are being sent are left as they are, so repeating the request does no harm. To an endpoint that is
        paused or disabled, they are sent once that is resumed.
        """
        endpoint, body = self.found(webhook_id), validated(RedeliverRange, request.data)
        states = [DeliveryState(state) for state in body["states"]]
        count, more = redeliver_range(
            by=self.actor, endpoint=endpoint, since=body["since"], until=body["until"], states=states
        )
        return Response({"deliveries": count, "has_more": more}, status=202)
